"""What callers send, checked: every refusal names the field."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2

from libs.market.errors import InvalidError
from libs.rpc.pages import page_size
from services.query.asked import EARLIEST_US, LATEST_US, Order, Selection, Times
from services.query.pages import hash_of
from services.query.reading.bars import BarsAsked
from services.query.reading.rows import Listing

MOST_PAGE_ROWS = 10_000
DEFAULT_PAGE_ROWS = 100
MOST_BARS = 100_000
DEFAULT_BARS = 1_000
MOST_NAME_CHARACTERS = 64

ORDERS = {
    query_pb2.ORDER_UNSPECIFIED: Order.NEWEST_FIRST,
    query_pb2.ORDER_NEWEST_FIRST: Order.NEWEST_FIRST,
    query_pb2.ORDER_OLDEST_FIRST: Order.OLDEST_FIRST,
}
INTERVALS_US = {
    query_pb2.INTERVAL_1S: 1_000_000,
    query_pb2.INTERVAL_1M: 60_000_000,
    query_pb2.INTERVAL_5M: 300_000_000,
    query_pb2.INTERVAL_15M: 900_000_000,
    query_pb2.INTERVAL_1H: 3_600_000_000,
    query_pb2.INTERVAL_1D: 86_400_000_000,
}


@dataclass(frozen=True, slots=True)
class At:
    """The state asked for: the newest one where both are None."""

    snapshot_id: int | None = None
    as_of_us: int | None = None


NOW = At()


@dataclass(frozen=True, slots=True)
class PageAsked:
    listing: Listing
    rows: int
    query_hash: bytes
    at: At


def page_asked(request: query_pb2.ListTradesRequest) -> PageAsked:
    listing = listing_of(request.filter, request.order, request.columns)
    at = at_of(request.at)
    rows = page_size(request.page_size, default=DEFAULT_PAGE_ROWS, most=MOST_PAGE_ROWS)
    if request.page_size > MOST_PAGE_ROWS:
        raise InvalidError(
            f"page_size is at most {MOST_PAGE_ROWS}, not {request.page_size}", field="page_size"
        )
    return PageAsked(listing, rows, hash_of("ListTrades", listing, at), at)


def listing_of(
    wanted: query_pb2.TradeFilter, order: query_pb2.Order.ValueType, columns: Iterable[str]
) -> Listing:
    if order not in ORDERS:
        raise InvalidError(f"order {order} is none of the known ones", field="order")
    return Listing(selection_of(wanted), columns_of(columns), ORDERS[order])


def selection_of(wanted: query_pb2.TradeFilter) -> Selection:
    return Selection(
        symbol=name_of(wanted.symbol, "filter.symbol"),
        exchange=name_of(wanted.exchange, "filter.exchange"),
        times=times_of(wanted),
    )


def times_of(
    wanted: query_pb2.TradeFilter | query_pb2.CheckCompletenessRequest, prefix: str = "filter."
) -> Times:
    start = EARLIEST_US
    end = LATEST_US
    if wanted.HasField("start_time"):
        start = time_us(wanted.start_time, f"{prefix}start_time", ceiling=True)
    if wanted.HasField("end_time"):
        end = time_us(wanted.end_time, f"{prefix}end_time", ceiling=True)
    if end < start:
        field = f"{prefix}end_time"
        raise InvalidError(f"{field} is before {prefix}start_time", field=field)
    return Times(start, end)


def time_us(stamp: Timestamp, field: str, *, ceiling: bool = False) -> int:
    """Read a time; nanoseconds round up where it bounds microseconds from below."""
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidError(f"{field}.nanos {stamp.nanos} is not in a second", field=field)
    micros = stamp.seconds * 1_000_000 + (stamp.nanos + (999 if ceiling else 0)) // 1_000
    if not EARLIEST_US <= micros <= LATEST_US:
        raise InvalidError(f"{field} is not between 1970 and 9999", field=field)
    return micros


def columns_of(asked: Iterable[str]) -> tuple[str, ...]:
    """Return the columns asked for, each once; what there is, and what all are, a state knows."""
    return tuple(sorted(set(asked)))


def name_of(text: str, field: str) -> str:
    if len(text) > MOST_NAME_CHARACTERS or not text.isprintable():
        raise InvalidError(
            f"{field} is at most {MOST_NAME_CHARACTERS} printable characters", field=field
        )
    return text


def at_of(travel: query_pb2.TimeTravel) -> At:
    chosen = travel.WhichOneof("at")
    if chosen == "snapshot_id":
        if travel.snapshot_id <= 0:
            raise InvalidError("at.snapshot_id must be positive", field="at.snapshot_id")
        return At(snapshot_id=travel.snapshot_id)
    if chosen == "as_of":
        return At(as_of_us=time_us(travel.as_of, "at.as_of"))
    return NOW


def bars_asked(request: query_pb2.GetBarsRequest) -> BarsAsked:
    wanted = selection_of(request.filter)
    if not wanted.symbol:
        raise InvalidError("filter.symbol is required", field="filter.symbol")
    if request.interval not in INTERVALS_US:
        raise InvalidError("interval is required: 1S, 1M, 5M, 15M, 1H or 1D", field="interval")
    limit = bounded(request.limit, "limit", DEFAULT_BARS, MOST_BARS)
    return BarsAsked(wanted, INTERVALS_US[request.interval], limit)


def bounded(number: int, field: str, default: int, most: int) -> int:
    if not 0 <= number <= most:
        raise InvalidError(f"{field} is between 0 and {most}, not {number}", field=field)
    return number or default
