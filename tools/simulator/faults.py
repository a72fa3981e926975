"""Faults on demand: what was asked for, when it is due, and what was really done.

What a fault does to the messages of a stretch is a list of positions: left out (skip), twice
(duplicate). Everything done is recorded, so that a test knows exactly what was injected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import msgspec
import numpy as np

from libs.market.errors import InvalidError
from tools.simulator.chunk import TradeColumns
from tools.simulator.draws import Int64s

Kind = Literal["drop", "skip", "duplicate", "delay", "malformed", "shutdown", "rate_limit", "ban"]
# Frames no client should trip over: cut off, not JSON, wrong types, fields missing, another event.
MALFORMED = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":17231',
    b"not json at all",
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":"x","s":7,"t":"y","p":1,"q":[],"T":null,"m":0}}',
    b'{"stream":"btcusdt@trade","data":{"e":"trade"}}',
    b'{"stream":"btcusdt@surprise","data":{"e":"surprise"}}',
    b"[]",
)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wish: do `kind` once `at` trades have passed (at once where `at` is 0).

    `count` trades or frames are skipped, doubled or malformed, of one `symbol` or of any;
    `seconds` is how long to delay, or to refuse REST; `connection` limits drop, shutdown and
    malformed to one; `every` repeats the wish each so many trades.
    """

    kind: Kind
    at: int = 0
    every: int = 0
    count: int = 1
    symbol: str = ""
    seconds: float = 1.0
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Injected:
    """One thing that was done. `trades` lists [symbol, id] of each trade it concerned."""

    number: int
    kind: Kind
    after_trades: int
    connections: tuple[int, ...] = ()
    trades: tuple[tuple[str, int], ...] = ()
    detail: str = ""


@dataclass(slots=True)
class FaultPlan:
    """Wishes not yet due, and what was done."""

    waiting: list[Fault] = field(default_factory=list)
    injected: list[Injected] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        self.waiting.append(fault)

    def take_due(self, trades_passed: int) -> list[Fault]:
        """Return the wishes that are due, and leave those that are not."""
        due = [fault for fault in self.waiting if fault.at <= trades_passed]
        self.waiting = [fault for fault in self.waiting if fault.at > trades_passed]
        again = (at(f, max(f.at, trades_passed) + f.every) for f in due if f.every)
        self.waiting.extend(again)
        return due

    def next_at(self) -> int | None:
        """Return after how many trades the next wish is due; None where there is none."""
        return min((fault.at for fault in self.waiting), default=None)

    def record(self, injected: Injected) -> None:
        self.injected.append(replace(injected, number=len(self.injected) + 1))


def at(fault: Fault, trades: int) -> Fault:
    """Return the same wish for a later moment."""
    return msgspec.structs.replace(fault, at=trades)


def parse(text: str) -> Fault:
    """Read a fault as typed on the command line: `kind` or `kind:key=value,key=value`.

    Raises:
        InvalidError: it is none.
    """
    kind, _, options = text.partition(":")
    fields = dict(option.partition("=")[::2] for option in options.split(",") if option)
    try:
        return msgspec.convert({"kind": kind, **fields}, Fault, strict=False)
    except msgspec.ValidationError as error:
        kinds = ", ".join(get_args(Kind))
        raise InvalidError(
            f"{text!r} is no fault ({error}); try skip:at=1000,count=3. Kinds: {kinds}",
            field="fault",
        ) from error


@dataclass(frozen=True, slots=True)
class Altered:
    """Messages to send of a stretch, by position, and what a wish still lacks in trades."""

    order: Int64s
    touched: Int64s
    missing: int


def alter(fault: Fault, order: Int64s, trades: TradeColumns, symbols: Sequence[str]) -> Altered:
    """Leave out or double the first trades in `order` that the fault is about."""
    rows = np.searchsorted(trades.message, order)
    rows = np.minimum(rows, max(len(trades) - 1, 0))
    hits = np.zeros(len(order), dtype=np.bool_)
    if len(trades):
        hits = trades.message[rows] == order
    if fault.symbol and len(trades):
        wanted = symbols.index(fault.symbol) if fault.symbol in symbols else -1
        hits &= trades.symbol[rows] == wanted
    chosen = np.flatnonzero(hits)[: fault.count]
    repeats = np.ones(len(order), dtype=np.int64)
    repeats[chosen] = 0 if fault.kind == "skip" else 2
    return Altered(np.repeat(order, repeats), rows[chosen], fault.count - len(chosen))
