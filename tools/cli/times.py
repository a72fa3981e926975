"""Times and spans as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from libs.market.errors import InvalidError

SPAN = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>s|m|h|d)")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def span_s(text: str, *, field: str) -> float:
    """Read 90s, 10m, 1.5h or 1d.

    Raises:
        InvalidError: on `field`, for anything else.
    """
    found = SPAN.fullmatch(text.strip())
    if found is None:
        raise InvalidError(f"{text!r} is no span of time: write 90s, 10m, 2h or 1d", field=field)
    return float(found["number"]) * SECONDS[found["unit"]]


def moment(text: str, now: datetime, *, field: str) -> datetime:
    """Read an ISO time, a time of the last 24 hours (14:05), or how long ago (10m); all UTC.

    Raises:
        InvalidError: on `field`, for anything else.
    """
    if SPAN.fullmatch(text.strip()):
        return now - timedelta(seconds=span_s(text, field=field))
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
            return _last(datetime.fromisoformat(f"{now:%Y-%m-%d}T{text}+00:00"), now)
        time = datetime.fromisoformat(text)
    except ValueError as error:
        wanted = "an ISO time (2026-03-01T14:05:00), 14:05, or how long ago (10m)"
        raise InvalidError(f"{text!r} is no time: write {wanted}", field=field) from error
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def past_moment(text: str, now: datetime, *, field: str) -> datetime:
    """Read a moment that was already.

    Raises:
        InvalidError: on `field`, for what is no time or is yet to come.
    """
    time = moment(text, now, field=field)
    if time > now:
        raise InvalidError(f"{text} is yet to come: it is {now:%Y-%m-%d %H:%M:%S} UTC", field=field)
    return time


def _last(time: datetime, now: datetime) -> datetime:
    return time if time <= now else time - timedelta(days=1)
