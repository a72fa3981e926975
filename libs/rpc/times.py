"""K2's times, UTC microseconds, as Protobuf has them."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(time_us: int) -> Timestamp:
    """Return a moment."""
    moment = Timestamp()
    moment.FromMicroseconds(time_us)
    return moment


def timestamp_or_unset(time_us: int) -> Timestamp | None:
    """Return a moment, nothing for 0: it has not come."""
    return timestamp(time_us) if time_us else None
