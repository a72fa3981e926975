"""What a trade is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from libs.market.errors import PrecisionError

DECIMALS = 12
INTEGER_DIGITS = 16

DAY_US = 86_400_000_000
# No trade is older, none is received later, and none is stamped over a day after its receipt.
EARLIEST_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
LATEST_RECEIPT_US = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


class AssetClass(StrEnum):
    CRYPTO = "CRYPTO"
    EQUITIES = "EQUITIES"
    FUTURES = "FUTURES"
    OPTIONS = "OPTIONS"


class Side(StrEnum):
    """The aggressor's side."""

    UNKNOWN = "UNKNOWN"
    BUY = "BUY"
    SELL = "SELL"
    SELL_SHORT = "SELL_SHORT"


class Origin(StrEnum):
    """How the trade reached K2."""

    STREAM = "STREAM"
    HEALED = "HEALED"
    IMPORTED = "IMPORTED"


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade as the exchange told it. Times are microseconds UTC.

    price and quantity keep the digits the exchange printed, trailing zeros too.
    """

    exchange: str
    asset_class: AssetClass
    symbol: str
    trade_id: str
    timestamp_us: int
    ingest_timestamp_us: int
    price: Decimal
    quantity: Decimal
    currency: str
    side: Side = Side.UNKNOWN
    source_sequence: int | None = None
    sequence_epoch: int = 0
    trade_conditions: tuple[str, ...] = ()
    origin: Origin = Origin.STREAM
    vendor_data: Mapping[str, str] = field(default_factory=dict)


def exact(number: Decimal, *, field: str) -> Decimal:
    """Return `number` if decimal(28, 12) holds it exactly.

    Raises:
        PrecisionError: it is not finite, or needs more than 12 decimals or 16 integer digits.
    """
    if not number.is_finite():
        raise PrecisionError(f"{field} {number} is not a finite number", field=field)
    digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
    decimals = len(digits) - 1 - number.adjusted() if digits else 0
    if decimals > DECIMALS or number.adjusted() >= INTEGER_DIGITS:
        raise PrecisionError(
            f"{field} {number} needs more than {DECIMALS} decimals"
            f" or {INTEGER_DIGITS} integer digits",
            field=field,
        )
    return number
