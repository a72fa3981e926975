"""Answers as tables for people: nothing is clipped, and what is usual fits in 80 columns."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table

NUMBERS = frozenset(
    {
        *("price", "quantity", "notional", "open", "high", "low", "close", "volume", "vwap"),
        *("trades", "added_rows", "total_rows", "total_files", "sent", "answered", "missing"),
        *("twice", "lag", "partitions behind", "memory", "of"),
        *("records", "age", "retention"),
        *("in the table", "in the tail", "duplicates dropped"),
    }
)
_WIDEST = 10_000
# As long as any id.
_LONG_WORD = 20


def grid(columns: Iterable[str], *, title: str | None = None) -> Table:
    """Return an empty table in K2's look; numbers stand right."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        show_edge=False,
    )
    for name in columns:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    return table


def show(console: Console, table: Table) -> None:
    """Print a table: closer where the screen is narrow, then in more lines, and else whole.

    A line ends between words, and in a word only where that is a long one: a topic's name.
    """
    if _natural_width(console, table) > console.width:
        table.padding = 0
    if _natural_width(console, table) > console.width:
        _fold(console, table)
    width = max(_natural_width(console, table), console.width)
    whole = Console(file=console.file, width=width, force_terminal=console.is_terminal)
    whole.print(table)


def _natural_width(console: Console, table: Table) -> int:
    return _measured(console, table).maximum


def _measured(console: Console, what: RenderableType) -> Measurement:
    return Measurement.get(console, console.options.update(max_width=_WIDEST), what)


def _fold(console: Console, table: Table) -> None:
    """Let lines end between words, where that is enough; rich alone would cut words off."""
    columns = [[column.header, *column.cells] for column in table.columns]
    cells = [[_measured(console, cell) for cell in column] for column in columns]
    least = [max(cell.minimum for cell in column) for column in cells]
    most = [max(cell.maximum for cell in column) for column in cells]
    room = console.width - _natural_width(console, table) + sum(most)
    if sum(least) > room:
        numbers = [column.justify == "right" for column in table.columns]
        least = [w if n else min(w, _LONG_WORD) for w, n in zip(least, numbers, strict=True)]
    if sum(least) <= room:
        for column, width in zip(table.columns, shares(least, most, room), strict=True):
            column.no_wrap, column.overflow, column.width = False, "fold", width


def shares(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Give each column what it needs at least, and of the rest first to those that lack little."""
    given, left = list(least), room - sum(least)
    wanting = sorted(range(len(given)), key=lambda at: most[at] - least[at])
    for rank, at in enumerate(wanting):
        more = min(most[at] - least[at], left // (len(wanting) - rank))
        given[at] += more
        left -= more
    return given


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], *, exact: bool) -> Table:
    """Return rows as a table; times to the microsecond where `exact`, else as short as they are."""
    kept = [list(row) for row in rows]
    table = grid(columns)
    specs = [_timespec(values, exact=exact) for values in zip(*kept, strict=True)]
    for row in kept:
        table.add_row(*(cell(value, spec) for value, spec in zip(row, specs, strict=True)))
    return table


def _timespec(values: Sequence[object], *, exact: bool) -> str:
    if exact:
        return "microseconds"
    times = [value for value in values if isinstance(value, datetime)]
    return "seconds" if any(time.second or time.microsecond for time in times) else "minutes"


def cell(value: object, timespec: str = "microseconds") -> str:
    """Print one value for people: sides in colour, times without the zone, numbers whole."""
    if value is None:
        return ""
    if value == "BUY":
        return "[green]BUY[/]"
    if value in ("SELL", "SELL_SHORT"):
        return f"[red]{value}[/]"
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", timespec)
    if isinstance(value, list):
        return ", ".join("=".join(item) if isinstance(item, tuple) else str(item) for item in value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value)


def plain_decimal(number: Decimal) -> str:
    """Print a decimal without exponent and without zeros that say nothing."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
