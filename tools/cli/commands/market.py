"""Questions: `k2 trades`, `k2 bars`, `k2 tail`, `k2 symbols`, `k2 snapshots`."""

from __future__ import annotations

import asyncio
from datetime import UTC
from decimal import Context, Decimal
from itertools import chain
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from k2.query.v1 import query_pb2 as pb
from rich.console import Console

from libs.market.errors import InvalidError
from libs.rpc.client import call, stream
from tools.cli.doors.asking import (
    ANSWER_TIMEOUT_S,
    drained,
    ensure_known,
    query_service,
    read_trades,
    time_travel,
    trade_filter,
)
from tools.cli.views.footnote import footnote, tell_lacks
from tools.cli.views.output import Output, Row, as_told, chosen, write, write_rows

INTERVALS = {
    "1s": pb.INTERVAL_1S,
    "1m": pb.INTERVAL_1M,
    "5m": pb.INTERVAL_5M,
    "15m": pb.INTERVAL_15M,
    "1h": pb.INTERVAL_1H,
    "1d": pb.INTERVAL_1D,
}
COLUMNS_FOR_PEOPLE = ("timestamp", "symbol", "side", "price", "quantity", "trade_id")

MOST, LARGEST = 2**31 - 1, 2**63 - 1

Symbol = Annotated[str, typer.Argument(help="As the exchange writes it: BTCUSDT.")]
Exchange = Annotated[str, typer.Option(help="The venue's name in capitals.")]
Since = Annotated[str | None, typer.Option("--from", help="ISO time, UTC, inclusive.")]
Until = Annotated[str | None, typer.Option("--to", help="ISO time, UTC, exclusive.")]
SnapshotId = Annotated[int | None, typer.Option(max=LARGEST, help="The table at this snapshot.")]
AsOf = Annotated[
    str | None, typer.Option(help="What the table had by the minute of this ISO time.")
]
Form = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="Default: by the file's ending, else table or JSON."),
]
File = Annotated[Path | None, typer.Option("--file", "-f", help="Write here, not to stdout.")]


def register(app: typer.Typer) -> None:
    """Add the questions to the command."""
    for command in (trades, bars, tail, symbols, snapshots):
        app.command(rich_help_panel="Questions")(command)


def trades(
    symbol: Symbol,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, max=MOST, help="Rows at most; 0 for all.")
    ] = 20,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Not the newest.")] = False,
    columns: Annotated[str, typer.Option(help="Comma list; default: all, in a table a few.")] = "",
    exchange: Exchange = "",
    since: Since = None,
    until: Until = None,
    snapshot_id: SnapshotId = None,
    as_of: AsOf = None,
    output: Form = None,
    file: File = None,
) -> None:
    """Trades of one symbol, over all history and the last millisecond.

    k2 trades BTCUSDT -n 5

    k2 trades BTCUSDT --limit 0 --file btc.parquet
    """
    form = chosen(output, file)
    asked = [name.strip() for name in columns.split(",") if name.strip()]
    request = pb.ReadTradesRequest(
        filter=trade_filter(symbol, exchange, since, until),
        order=pb.ORDER_OLDEST_FIRST if oldest_first else pb.ORDER_NEWEST_FIRST,
        columns=asked or (COLUMNS_FOR_PEOPLE if form is Output.TABLE else ()),
        limit=limit,
        at=time_travel(snapshot_id, as_of),
    )
    provenance: list[pb.Provenance] = []
    batches = drained(read_trades(request, provenance))
    first = next(batches)
    if not first.num_rows and not any(batch.num_rows for batch in batches):
        asyncio.run(ensure_known(symbol, exchange))
    # The service answers in its table's order, people read in theirs.
    names = asked or (COLUMNS_FOR_PEOPLE if form is Output.TABLE else first.schema.names)
    ordered = (batch.select(list(names)) for batch in chain([first], batches))
    schema = pa.schema([first.schema.field(name) for name in names])
    rows = write(ordered, schema, form, file)
    footnote(rows, provenance[0])


def bars(
    symbol: Symbol,
    interval: Annotated[str, typer.Option(help=" ".join(INTERVALS))] = "1m",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, max=MOST, help="Newest bars; 0 for all.")
    ] = 20,
    exchange: Exchange = "",
    since: Since = None,
    until: Until = None,
    snapshot_id: SnapshotId = None,
    as_of: AsOf = None,
    output: Form = None,
    file: File = None,
) -> None:
    """Open, high, low, close, volume and VWAP per interval."""
    if interval not in INTERVALS:
        raise InvalidError(
            f"no interval {interval!r}: take one of {', '.join(INTERVALS)}", field="interval"
        )
    request = pb.GetBarsRequest(
        filter=trade_filter(symbol, exchange, since, until),
        interval=INTERVALS[interval],
        limit=limit,
        at=time_travel(snapshot_id, as_of),
    )
    answer = asyncio.run(_bars(request))
    if not answer.bars:
        asyncio.run(ensure_known(symbol, exchange))
    form = chosen(output, file)
    if form is Output.TABLE:
        write_rows([_bar_for_people(bar) for bar in answer.bars], _BAR_SHOWN, form, file)
    else:
        write_rows([_bar_row(bar) for bar in answer.bars], _BAR_COLUMNS, form, file)
    footnote(len(answer.bars), answer.provenance)


_BAR_COLUMNS = ("time", "open", "high", "low", "close", "volume", "notional", "vwap", "trades")


_BAR_SHOWN = tuple(name for name in _BAR_COLUMNS if name != "notional")
_VWAP_DIGITS = Context(prec=9)


async def _bars(request: pb.GetBarsRequest) -> pb.GetBarsResponse:
    async with query_service() as service:
        return await call(service.GetBars, request, timeout_s=ANSWER_TIMEOUT_S)


def _bar_row(bar: pb.Bar) -> Row:
    values = {name: getattr(bar, name) for name in _BAR_COLUMNS[1:]}
    return {"time": bar.time.ToDatetime(tzinfo=UTC), **values}


def _bar_for_people(bar: pb.Bar) -> Row:
    return {**_bar_row(bar), "vwap": _VWAP_DIGITS.plus(Decimal(bar.vwap))}


def tail(
    symbol: Annotated[str, typer.Argument(help="All symbols when left out.")] = "",
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=MOST, help="Rows already there, first.")
    ] = 10,
    exchange: Exchange = "",
    output: Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")] = None,
) -> None:
    """Trades as they arrive, until Ctrl-C."""
    form = as_told(output)
    request = pb.FollowTradesRequest(
        filter=pb.TradeFilter(symbol=symbol, exchange=exchange), last=last
    )
    asyncio.run(_follow(request, form))


async def _follow(request: pb.FollowTradesRequest, form: Output) -> None:
    console, complete = Console(highlight=False), True
    async with query_service() as service:
        async for answer in stream(service.FollowTrades, request, timeout_s=None):
            if answer.HasField("provenance"):
                tell_lacks(answer.provenance, was_complete=complete)
                complete = answer.provenance.complete
            for trade in answer.trades:
                if form is Output.TABLE:
                    console.print(_line(trade))
                else:
                    write_rows([_trade_row(trade)], (), form, None)


def _line(trade: pb.Trade) -> str:
    time = trade.timestamp.ToDatetime().isoformat(" ", "microseconds")
    side = "green" if trade.side == "BUY" else "red"
    return (
        f"[dim]{time}[/]  {trade.symbol:<12} [{side}]{trade.side:<10}[/]"
        f" {trade.price:>16} [dim]x[/] {trade.quantity}"
    )


def _trade_row(trade: pb.Trade) -> Row:
    row: Row = {field.name: value for field, value in trade.ListFields()}
    row["timestamp"] = trade.timestamp.ToDatetime(tzinfo=UTC)
    row["ingest_timestamp"] = trade.ingest_timestamp.ToDatetime(tzinfo=UTC)
    row["vendor_data"] = dict(trade.vendor_data)
    row["trade_conditions"] = list(trade.trade_conditions)
    return row


def symbols(
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Symbols at most.")] = 0,
    output: Form = None,
    file: File = None,
) -> None:
    """Every symbol there is, with its number of trades, its first and its last one."""
    pages = asyncio.run(_symbol_pages(limit))
    found = [summary for page in pages for summary in page.symbols]
    rows = [_symbol_row(summary) for summary in found[: limit or None]]
    write_rows(rows, _SYMBOL_COLUMNS, chosen(output, file), file)
    footnote(len(rows), pages[-1].provenance)


_SYMBOL_COLUMNS = ("exchange", "asset_class", "symbol", "trades", "first_time", "last_time")


async def _symbol_pages(limit: int) -> list[pb.ListSymbolsResponse]:
    """Read pages until there are so many symbols; 0 is all."""
    request = pb.ListSymbolsRequest()
    pages: list[pb.ListSymbolsResponse] = []
    async with query_service() as service:
        while not pages or request.page_token:
            if limit and sum(len(page.symbols) for page in pages) >= limit:
                break
            pages.append(await call(service.ListSymbols, request, timeout_s=ANSWER_TIMEOUT_S))
            request.page_token = pages[-1].next_page_token
    return pages


def _symbol_row(found: pb.SymbolSummary) -> Row:
    row = {name: getattr(found, name) for name in _SYMBOL_COLUMNS}
    row["first_time"] = found.first_time.ToDatetime(tzinfo=UTC)
    row["last_time"] = found.last_time.ToDatetime(tzinfo=UTC)
    return row


def snapshots(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, max=MOST, help="Newest; 0 for all.")
    ] = 20,
    output: Form = None,
    file: File = None,
) -> None:
    """Commits of the table: when, how many rows, how many files."""
    answer = asyncio.run(_snapshots(pb.ListSnapshotsRequest(page_size=limit)))
    rows = [_snapshot_row(snapshot) for snapshot in answer.snapshots]
    form = chosen(output, file)
    write_rows(rows, _SNAPSHOT_SHOWN if form is Output.TABLE else _SNAPSHOT_COLUMNS, form, file)


_SNAPSHOT_COLUMNS = (
    "snapshot_id", "commit_time", "kind", "added_rows", "total_rows", "total_files", "commit_id",
)  # fmt: skip


_SNAPSHOT_SHOWN = _SNAPSHOT_COLUMNS[:-1]


async def _snapshots(request: pb.ListSnapshotsRequest) -> pb.ListSnapshotsResponse:
    async with query_service() as service:
        return await call(service.ListSnapshots, request, timeout_s=ANSWER_TIMEOUT_S)


def _snapshot_row(snapshot: pb.Snapshot) -> Row:
    row = {name: getattr(snapshot, name) for name in _SNAPSHOT_COLUMNS}
    return {**row, "commit_time": snapshot.commit_time.ToDatetime(tzinfo=UTC)}
