"""Confluent's framing of a Protobuf value: 00, schema id (4 bytes, big endian), 00."""

from __future__ import annotations

import struct

from libs.wire.rejection import Reason, RejectedError

HEADER_BYTES = 6
_HEADER = struct.Struct(">BIB")


def header(schema_id: int) -> bytes:
    """Say the bytes before every payload of this schema's first message."""
    return _HEADER.pack(0, schema_id, 0)


def frame(schema_id: int, payload: bytes) -> bytes:
    return header(schema_id) + payload


def unframe(value: bytes) -> tuple[int, bytes]:
    """Split a value into its schema id and payload.

    Raises:
        RejectedError: FRAMING: the header is short, or is not that of a file's first message.
    """
    if len(value) < HEADER_BYTES:
        raise RejectedError(
            Reason.FRAMING, f"{len(value)} bytes are too few for a header of {HEADER_BYTES}"
        )
    magic, schema_id, message_index = _HEADER.unpack_from(value)
    if magic or message_index:
        raise RejectedError(
            Reason.FRAMING, f"header {value[:HEADER_BYTES].hex()} is not 00, schema id, 00"
        )
    return schema_id, value[HEADER_BYTES:]
