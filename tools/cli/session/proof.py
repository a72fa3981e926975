"""The proof: what the session says was traded, against what a query answers page by page.

The two sides share nothing but the definition of the hash. Expected is computed from the session
itself, without K2; actual is read over gRPC with `ListTrades`, as anyone may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from k2.query.v1 import query_pb2 as pb
from k2.query.v1.query_pb2_grpc import QueryServiceStub
from rich.console import Console

from libs.rpc.client import call, channel
from tools.cli.views.tables import grid, show
from tools.simulator.truth import ExpectedTrades, TradeHash

if TYPE_CHECKING:
    from k2.query.v1.query_pb2_grpc import QueryServiceAsyncStub

PAGE_ROWS = 10_000
PAGE_TIMEOUT_S = 30.0
COLUMNS = ("source_sequence", "price", "quantity", "timestamp", "side")
POSITION = ("kafka_topic", "kafka_partition", "kafka_offset")
HASH_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Answered:
    """One symbol as queries answer it; `repeated` rows had an id that was there already."""

    trades: ExpectedTrades
    rows: int
    # Of these, rows below the seam of the page they came in.
    from_iceberg: int
    complete: bool

    @property
    def repeated(self) -> int:
        return self.rows - self.trades.count


@dataclass(frozen=True, slots=True)
class Proof:
    """Both sides, by symbol."""

    expected: Mapping[str, ExpectedTrades]
    answered: Mapping[str, Answered]

    def holds_for(self, symbol: str) -> bool:
        """Return whether this symbol's trades are all there, once, digit by digit."""
        answered = self.answered[symbol]
        return (
            answered.trades == self.expected[symbol]
            and answered.repeated == 0
            and answered.complete
        )

    @property
    def passed(self) -> bool:
        return bool(self.expected) and all(self.holds_for(symbol) for symbol in self.expected)


async def prove(expected: Mapping[str, ExpectedTrades], address: str) -> Proof:
    """Read every symbol of the session back, page by page."""
    async with channel(address) as connection:
        service = QueryServiceStub(connection)
        answered = {symbol: await read_back(service, symbol) for symbol in expected}
    return Proof(expected, answered)


async def read_back(service: QueryServiceAsyncStub, symbol: str) -> Answered:
    """Read all trades of a symbol, oldest first."""
    request = pb.ListTradesRequest(
        filter=pb.TradeFilter(symbol=symbol),
        order=pb.ORDER_OLDEST_FIRST,
        columns=(*COLUMNS, *POSITION),
        page_size=PAGE_ROWS,
    )
    rows: list[pb.Trade] = []
    from_iceberg, complete = 0, True
    while True:
        page = await call(service.ListTrades, request, timeout_s=PAGE_TIMEOUT_S)
        rows += page.trades
        from_iceberg += below_seam(page)
        complete = complete and page.provenance.complete
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    trades = await asyncio.to_thread(summary, symbol, rows)
    return Answered(trades, len(rows), from_iceberg, complete)


def below_seam(page: pb.ListTradesResponse) -> int:
    """Count a page's rows that came from Iceberg."""
    seam = {topic.topic: topic.offsets for topic in page.provenance.seam}
    return sum(
        row.kafka_topic in seam and row.kafka_offset < seam[row.kafka_topic][row.kafka_partition]
        for row in page.trades
    )


def summary(symbol: str, rows: list[pb.Trade]) -> ExpectedTrades:
    """Hash the rows of one symbol as the truth hashes the session's."""
    digest = TradeHash(symbol)
    for row in sorted(rows, key=lambda row: row.source_sequence):
        time_us = row.timestamp.ToMicroseconds()
        digest.add(
            row.source_sequence,
            row.price,
            row.quantity,
            time_us,
            is_buyer_maker=row.side == "SELL",
        )
    return digest.expected()


def show_proof(console: Console, proof: Proof) -> None:
    """Print both sides, a line a symbol, and the verdict."""
    columns = ("symbol", "sent", "answered", "missing", "twice", "content hash", "")
    table = grid(columns, title="Sent by the exchange = answered by a query")
    for symbol, expected in proof.expected.items():
        answered = proof.answered[symbol]
        good = proof.holds_for(symbol)
        table.add_row(
            symbol,
            f"{expected.count:,}",
            f"{answered.rows:,}",
            str(expected.count - answered.trades.count),
            str(answered.repeated),
            expected.sha256[:HASH_SHOWN],
            "[green]equal[/]" if good else f"[red]{answered.trades.sha256[:HASH_SHOWN]}[/]",
        )
    show(console, table)
    _show_verdict(console, proof)


def _show_verdict(console: Console, proof: Proof) -> None:
    total = sum(symbol.count for symbol in proof.expected.values())
    answered = sum(symbol.rows for symbol in proof.answered.values())
    from_iceberg = sum(symbol.from_iceberg for symbol in proof.answered.values())
    where = f"{from_iceberg:,} from Iceberg, {answered - from_iceberg:,} from the tail"
    if proof.passed:
        console.print(
            f"[bold green]PROVEN[/] {total:,} trades sent, {answered:,} answered:"
            f" nothing missing, nothing twice, every digit equal ({where})"
        )
    else:
        wrong = [symbol for symbol in proof.expected if not proof.holds_for(symbol)]
        console.print(
            f"[bold red]FAILED[/] {total:,} trades sent, {answered:,} answered;"
            f" not equal: {', '.join(wrong) or 'no symbol was sent'} ({where})"
        )
