"""The ledger over gRPC, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from k2.writer.v1 import ledger_pb2

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Series
from libs.lake.ledger.ledger import Dead, Hole, Ledger, Lost, PartitionBook, Shed
from libs.market.errors import InvalidError
from libs.rpc.pages import decode_token, encode_token, page_size
from libs.rpc.times import timestamp
from services.writer.messages import HeadLedger

DEFAULT_PAGE, LARGEST_PAGE = 100, 1_000

Entry = TopicPartition | Series


class LedgerToken(NamedTuple):
    """Of which ledger and question, and how many entries the pages before had."""

    snapshot_id: int
    topic: str
    symbol: str
    entries: int


def token_of(request: ledger_pb2.GetLedgerRequest) -> LedgerToken:
    """Return where the page begins.

    Raises:
        InvalidError: the token is not ours, or of another question.
    """
    if not request.page_token:
        return LedgerToken(request.snapshot_id, request.topic, request.symbol, 0)
    token = decode_token(request.page_token, LedgerToken)
    if (token.topic, token.symbol) != (request.topic, request.symbol):
        raise InvalidError("page_token is of another topic or symbol", field="page_token")
    return token


def ledger_page(
    request: ledger_pb2.GetLedgerRequest, token: LedgerToken, head: HeadLedger
) -> ledger_pb2.GetLedgerResponse:
    """Return the partitions and series of a page, all of one snapshot's ledger."""
    size = page_size(request.page_size, default=DEFAULT_PAGE, most=LARGEST_PAGE)
    entries = list(entries_of(head.ledger, token.topic, token.symbol))
    page = entries[token.entries : token.entries + size]
    more = token.entries + size < len(entries)
    following = token._replace(snapshot_id=head.snapshot_id, entries=token.entries + size)
    return ledger_pb2.GetLedgerResponse(
        snapshot_id=head.snapshot_id,
        partitions=[
            partition_book(entry, head.ledger.book(entry))
            for entry in page
            if isinstance(entry, TopicPartition)
        ],
        series=[series_book(entry, head.ledger) for entry in page if isinstance(entry, Series)],
        next_page_token=encode_token(following) if more else "",
    )


def entries_of(ledger: Ledger, topic: str, symbol: str) -> Iterator[Entry]:
    yield from sorted(at for at in ledger.partitions if topic in ("", at.topic))
    known = ledger.coverage.keys() | ledger.holes.keys() | ledger.duplicates.keys()
    yield from sorted(series for series in known if symbol in ("", series.symbol))


def partition_book(at: TopicPartition, book: PartitionBook) -> ledger_pb2.PartitionBook:
    return ledger_pb2.PartitionBook(
        topic=at.topic,
        partition=at.partition,
        shed=map(shed_range, book.shed),
        dead=map(dead_range, book.dead),
        lost=map(lost_range, book.lost),
    )


def shed_range(one: Shed) -> ledger_pb2.ShedRange:
    return ledger_pb2.ShedRange(
        start_offset=one.start,
        end_offset=one.end,
        classes=one.classes,
        policy=one.policy,
        symbols=one.symbols,
        records=one.records,
        time=timestamp(one.at_us),
    )


def dead_range(one: Dead) -> ledger_pb2.DeadRange:
    return ledger_pb2.DeadRange(
        start_offset=one.start,
        end_offset=one.end,
        symbol=one.symbol,
        reason=one.reason,
        time=timestamp(one.at_us),
    )


def lost_range(one: Lost) -> ledger_pb2.LostRange:
    return ledger_pb2.LostRange(
        start_offset=one.start,
        end_offset=one.end,
        symbols=one.symbols,
        time=timestamp(one.at_us),
    )


def series_book(series: Series, ledger: Ledger) -> ledger_pb2.SeriesBook:
    return ledger_pb2.SeriesBook(
        exchange=series.exchange,
        asset_class=series.asset_class,
        symbol=series.symbol,
        sequence_epoch=series.epoch,
        held=[
            ledger_pb2.HeldIds(
                first_id=ids.first,
                last_id=ids.last,
                first_time=timestamp(ids.first_us),
                last_time=timestamp(ids.last_us),
            )
            for ids in ledger.coverage.get(series, ())
        ],
        venue_holes=[venue_hole(hole) for hole in ledger.holes.get(series, ())],
        duplicates=ledger.duplicates.get(series, 0),
    )


def venue_hole(hole: Hole) -> ledger_pb2.VenueHole:
    return ledger_pb2.VenueHole(
        first_id=hole.first, last_id=hole.last, reason=hole.why, time=timestamp(hole.at_us)
    )


def declared(
    request: ledger_pb2.RecordVenueHoleRequest, known: Iterable[Series], *, at_us: int
) -> tuple[Series, Hole]:
    """Return the hole that a request declares, of the one series that it can mean.

    Raises:
        InvalidError: it names no series, or several, or no ids.
    """
    if not request.reason:
        raise InvalidError("say how it is known that the trades never were", field="reason")
    if not 0 <= request.first_id <= request.last_id:
        raise InvalidError(
            f"ids {request.first_id} to {request.last_id} are no range", field="first_id"
        )
    meant = [series for series in sorted(known) if is_meant(series, request)]
    if len(meant) != 1:
        found = ", ".join(map(str, meant)) or "none"
        raise InvalidError(
            f"name one series that the table has of {request.symbol!r}; there is: {found}",
            field="symbol",
        )
    return meant[0], Hole(request.first_id, request.last_id, request.reason, at_us)


def is_meant(series: Series, request: ledger_pb2.RecordVenueHoleRequest) -> bool:
    return (
        series.symbol == request.symbol
        and request.exchange in ("", series.exchange)
        and request.asset_class in ("", series.asset_class)
        and (not request.HasField("sequence_epoch") or request.sequence_epoch == series.epoch)
    )
