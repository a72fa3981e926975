"""The ledger by page, and what may be declared to it."""

from __future__ import annotations

import pytest
from k2.writer.v1 import ledger_pb2

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Ids, Series
from libs.lake.ledger.ledger import Hole, Ledger, Lost, PartitionBook
from libs.market.errors import InvalidError
from services.writer.ledger.pages import declared, ledger_page, token_of
from services.writer.messages import HeadLedger

SPOT, FUTURE = (Series("BINANCE", kind, "BTCUSDT", 0) for kind in ("CRYPTO", "FUTURES"))
ETH = Series("BINANCE", "CRYPTO", "ETHUSDT", 0)
HELD = (Ids(1, 9, 100, 900),)
LEDGER = Ledger(
    partitions={TopicPartition("t", p): PartitionBook(lost=(Lost(0, p, 5),)) for p in (1, 2)},
    coverage={SPOT: HELD, FUTURE: HELD, ETH: HELD},
    duplicates={ETH: 3},
)


def page(**asked: object) -> ledger_pb2.GetLedgerResponse:
    request = ledger_pb2.GetLedgerRequest(**asked)  # type: ignore[arg-type]
    return ledger_page(request, token_of(request), HeadLedger(7, LEDGER))


def test_pages_hold_each_entry_once() -> None:
    """Partitions, then series; the token pins the snapshot of the first page."""
    found, token = ledger_pb2.GetLedgerResponse(), ""
    for _ in range(3):
        answer = page(page_size=2, page_token=token)
        token = answer.next_page_token
        found.MergeFrom(answer)
    assert token == ""
    assert [book.partition for book in found.partitions] == [1, 2]
    assert [(book.symbol, book.asset_class) for book in found.series] == [
        ("BTCUSDT", "CRYPTO"),
        ("ETHUSDT", "CRYPTO"),
        ("BTCUSDT", "FUTURES"),
    ]
    first = page(page_size=2).next_page_token
    assert token_of(ledger_pb2.GetLedgerRequest(page_token=first)).snapshot_id == 7


def test_page_of_a_symbol_has_its_series() -> None:
    """And a token of another question is refused."""
    answer = page(symbol="ETHUSDT", topic="other")
    assert not answer.partitions
    (book,) = answer.series
    assert (book.held[0].first_id, book.held[0].last_id, book.duplicates) == (1, 9, 3)
    token = page(page_size=1).next_page_token
    with pytest.raises(InvalidError):
        page(symbol="ETHUSDT", page_token=token)


def test_hole_is_declared_of_one_series() -> None:
    """Where a symbol has several, the asset class tells."""
    request = ledger_pb2.RecordVenueHoleRequest(
        symbol="BTCUSDT", asset_class="FUTURES", first_id=10, last_id=12, reason="halted"
    )
    assert declared(request, LEDGER.coverage, at_us=5) == (FUTURE, Hole(10, 12, "halted", 5))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"asset_class": ""}, "symbol"),
        ({"symbol": "NONE"}, "symbol"),
        ({"sequence_epoch": 3}, "symbol"),
        ({"first_id": 13}, "first_id"),
        ({"reason": ""}, "reason"),
    ],
)
def test_unclear_hole_is_refused(changes: dict[str, object], field: str) -> None:
    """Nothing is guessed: a wrong hole would hide a missing trade."""
    asked = {
        "symbol": "BTCUSDT",
        "asset_class": "FUTURES",
        "first_id": 10,
        "last_id": 12,
        "reason": "halted",
    }
    request = ledger_pb2.RecordVenueHoleRequest(**(asked | changes))  # type: ignore[arg-type]
    with pytest.raises(InvalidError) as refused:
        declared(request, LEDGER.coverage, at_us=5)
    assert refused.value.field == field
