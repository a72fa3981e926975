"""Why a record is no trade."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libs.market.errors import InvalidError


class Reason(StrEnum):
    EMPTY = "EMPTY"
    FRAMING = "FRAMING"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    INCOMPATIBLE_SCHEMA = "INCOMPATIBLE_SCHEMA"
    UNDECODABLE = "UNDECODABLE"
    PRECISION = "PRECISION"
    TIMESTAMP = "TIMESTAMP"
    FIELD = "FIELD"
    CONFLICT = "CONFLICT"


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that goes to the dead letters, with its bytes as they came.

    `symbol` is the record's key, empty where there is none.
    """

    offset: int
    reason: Reason
    detail: str
    raw: bytes
    symbol: str = ""


class RejectedError(InvalidError):
    """One record cannot be a trade; `rejection` says why for programs."""

    reason = "REJECTED"

    def __init__(self, rejection: Reason, message: str, /, *, field: str = "value") -> None:
        super().__init__(message, field=field, rejection=rejection)
        self.rejection = rejection
