"""Page tokens: what was asked, up to which offsets, and the last row given. No snapshot.

Any state that reaches the offsets serves the next page, whatever was committed, expired or
restarted in between: the rows below them are the same.
"""

from __future__ import annotations

import hashlib
from typing import Self, TypeVar

import msgspec

from libs.market.errors import InvalidError
from libs.rpc.pages import decode_token, encode_token
from services.query.asked import RowKey
from services.query.offsets import Offsets

T = TypeVar("T", bound="Token")


class Token(msgspec.Struct, frozen=True, array_like=True):
    """What continues one query and no other."""

    query_hash: bytes

    def encode(self) -> str:
        return encode_token(self)


class NameToken(Token, frozen=True, array_like=True):
    last: tuple[str, str, str]


class SequenceToken(Token, frozen=True, array_like=True):
    last: int


# Its reason's rank, series, first id, topic, partition and first position.
HoleKey = tuple[int, tuple[str, str, str, int], int, str, int, int]


class HoleToken(Token, frozen=True, array_like=True):
    last: HoleKey


class PageToken(Token, frozen=True, array_like=True):
    high: dict[str, dict[int, int]]
    last: tuple[int, str, int, int]
    # Nothing of the whole question was missing when its first page was answered.
    whole: bool = False

    @classmethod
    def after(cls, query_hash: bytes, high: Offsets, last: RowKey) -> Self:
        offsets = {topic: dict(partitions) for topic, partitions in high.items()}
        return cls(
            query_hash, offsets, (last.timestamp_us, last.topic, last.partition, last.offset)
        )

    @property
    def last_key(self) -> RowKey:
        return RowKey(*self.last)


def hash_of(*asked: object) -> bytes:
    """Fingerprint a query: tokens of one query do not continue another."""
    return hashlib.blake2b(repr(asked).encode(), digest_size=8).digest()


def read_token(text: str, query_hash: bytes, kind: type[T]) -> T | None:
    """Return the token, None where the text is empty.

    Raises:
        InvalidError: on `page_token`: garbage, or of another query.
    """
    if not text:
        return None
    token = decode_token(text, kind)
    if token.query_hash != query_hash:
        raise InvalidError(
            "page_token belongs to another query: filter, order, columns and time must stay the"
            " same from page to page",
            field="page_token",
        )
    return token
