"""One trade at a time, by the Protobuf library itself: for tests, single rows and reasons.

trades.py does the same by the batch and must agree; a property test holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from k2.market.v1 import market_pb2

from libs.market.errors import InvalidError, PrecisionError
from libs.market.trade import (
    DAY_US,
    EARLIEST_US,
    LATEST_RECEIPT_US,
    AssetClass,
    Origin,
    Side,
    Trade,
)
from libs.wire.decimals import parse_decimal
from libs.wire.framing import frame, unframe
from libs.wire.rejection import Reason, RejectedError

E = TypeVar("E")

REQUIRED_TEXTS = ("exchange", "symbol", "trade_id", "currency")
# By number in the Protobuf enumerations, which declare them in the same order.
ASSET_CLASSES = (None, *AssetClass)
SIDES = tuple(Side)
ORIGINS = (None, *Origin)


def trade_schema() -> FileDescriptorProto:
    """Return the schema to register for topics of trades."""
    schema = FileDescriptorProto()
    market_pb2.DESCRIPTOR.CopyToProto(schema)
    return schema


def encode_trade(trade: Trade, schema_id: int) -> bytes:
    return frame(schema_id, _to_message(trade).SerializeToString())


def decode_trade(value: bytes | None) -> Trade:
    """Decode one framed trade, whatever its schema id.

    Raises:
        RejectedError: it is not a trade; every Reason but UNKNOWN_SCHEMA.
    """
    if not value:
        raise RejectedError(Reason.EMPTY, "the record has no value")
    _, payload = unframe(value)
    if not payload:
        raise RejectedError(Reason.EMPTY, "the message is empty")
    try:
        message = market_pb2.Trade.FromString(payload)
    except DecodeError as error:
        raise RejectedError(Reason.UNDECODABLE, str(error)) from error
    return _from_message(message)


def fields_of(value: bytes) -> dict[str, str]:
    """Return what stands in a framed record, by field, whether or not it is a trade.

    As far as it decodes: nothing where it does not.
    """
    try:
        message = market_pb2.Trade.FromString(unframe(value)[1])
    except (RejectedError, DecodeError):
        return {}
    names = {"asset_class": ASSET_CLASSES, "side": SIDES, "origin": ORIGINS}
    return {
        field.name: _shown(content, names.get(field.name, ()))
        for field, content in message.ListFields()
    }


def _shown(content: object, names: Sequence[object]) -> str:
    if isinstance(content, Mapping):
        return ", ".join(f"{key}={content[key]}" for key in sorted(content))
    if isinstance(content, int) and content < len(names):
        return str(names[content])
    if isinstance(content, Sequence) and not isinstance(content, str):
        return ", ".join(content)
    return str(content)


def _to_message(trade: Trade) -> market_pb2.Trade:
    return market_pb2.Trade(
        exchange=trade.exchange,
        asset_class=market_pb2.AssetClass.ValueType(ASSET_CLASSES.index(trade.asset_class)),
        symbol=trade.symbol,
        trade_id=trade.trade_id,
        source_sequence=trade.source_sequence,
        sequence_epoch=trade.sequence_epoch,
        timestamp_us=trade.timestamp_us,
        ingest_timestamp_us=trade.ingest_timestamp_us,
        price=f"{trade.price:f}",
        quantity=f"{trade.quantity:f}",
        currency=trade.currency,
        side=market_pb2.Side.ValueType(SIDES.index(trade.side)),
        trade_conditions=trade.trade_conditions,
        origin=market_pb2.Origin.ValueType(ORIGINS.index(trade.origin)),
        vendor_data=trade.vendor_data,
    )


def _from_message(message: market_pb2.Trade) -> Trade:
    for name in REQUIRED_TEXTS:
        if not getattr(message, name):
            raise RejectedError(Reason.FIELD, f"{name} is empty", field=name)
    return Trade(
        exchange=message.exchange,
        asset_class=_named(ASSET_CLASSES, message.asset_class, field="asset_class"),
        symbol=message.symbol,
        trade_id=message.trade_id,
        timestamp_us=_timestamp(message),
        ingest_timestamp_us=message.ingest_timestamp_us,
        price=_positive(message.price, field="price"),
        quantity=_positive(message.quantity, field="quantity"),
        currency=message.currency,
        side=_named(SIDES, message.side, field="side"),
        source_sequence=message.source_sequence if message.HasField("source_sequence") else None,
        sequence_epoch=message.sequence_epoch,
        trade_conditions=tuple(message.trade_conditions),
        origin=_named(ORIGINS, message.origin, field="origin"),
        vendor_data=dict(message.vendor_data),
    )


def _named(names: Sequence[E | None], number: int, *, field: str) -> E:
    name = names[number] if 0 <= number < len(names) else None
    if name is None:
        raise RejectedError(Reason.FIELD, f"{field} {number} has no meaning", field=field)
    return name


def _positive(text: str, *, field: str) -> Decimal:
    try:
        number = parse_decimal(text, field=field)
    except PrecisionError as error:
        raise RejectedError(Reason.PRECISION, error.message, field=field) from error
    except InvalidError as error:
        raise RejectedError(Reason.FIELD, error.message, field=field) from error
    if number <= 0:
        raise RejectedError(Reason.FIELD, f"{field} {text} is not above 0", field=field)
    return number


def _timestamp(message: market_pb2.Trade) -> int:
    received_us, traded_us = message.ingest_timestamp_us, message.timestamp_us
    if not EARLIEST_US <= received_us < LATEST_RECEIPT_US:
        raise RejectedError(
            Reason.TIMESTAMP,
            f"received at {received_us} us, not between 2000 and 2200",
            field="ingest_timestamp_us",
        )
    if not EARLIEST_US <= traded_us <= received_us + DAY_US:
        raise RejectedError(
            Reason.TIMESTAMP,
            f"traded at {traded_us} us, before 2000 or more than a day after its receipt",
            field="timestamp_us",
        )
    return traded_us
