"""Page sizes and opaque page tokens for list calls."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import TypeVar

import msgspec

from libs.market.errors import InvalidError

T = TypeVar("T")
CHECKSUM_BYTES = 4


def encode_token(payload: object) -> str:
    """Turn what the next page needs to know into URL-safe text."""
    body = msgspec.msgpack.encode(payload)
    token = base64.urlsafe_b64encode(_checksum(body) + body)
    return token.decode().rstrip("=")


def decode_token(token: str, type: type[T]) -> T:  # noqa: A002 (msgspec's word)
    """Read a token that `encode_token` made.

    Raises:
        InvalidError: on `page_token`, for anything else.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        body = raw[CHECKSUM_BYTES:]
        if raw[:CHECKSUM_BYTES] == _checksum(body):
            return msgspec.msgpack.decode(body, type=type)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise _not_ours() from error
    raise _not_ours()


def page_size(requested: int, *, default: int, most: int) -> int:
    """Rows of a page: `default` where 0 is requested, never more than `most`.

    Raises:
        InvalidError: on `page_size`, where it is negative.
    """
    if requested < 0:
        raise InvalidError(f"page_size must not be negative, is {requested}", field="page_size")
    return min(requested or default, most)


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "big")


def _not_ours() -> InvalidError:
    text = "page_token is not one that this call returned; start again without it"
    return InvalidError(text, field="page_token")
