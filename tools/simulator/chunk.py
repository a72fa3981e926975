"""A piece of a session: some thousand messages as columns, rendered to text when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from tools.simulator.draws import Bools, Int64s

TimeUnit: TypeAlias = Literal["ms", "us"]
Line: TypeAlias = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Form:
    """How a reader wants messages: stamps in ms or us, wrapped with the stream's name or not."""

    time_unit: TimeUnit = "ms"
    combined: bool = True


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """The trades of a chunk, in the order of its messages.

    `message` is the trade's position in the chunk, `symbol` an index into the session's symbols.
    Times are microseconds; price and quantity are Arrow strings, as the exchange printed them.
    """

    message: Int64s
    symbol: Int64s
    trade_id: Int64s
    time_us: Int64s
    price: pa.StringArray
    quantity: pa.StringArray
    is_buyer_maker: Bools

    def __len__(self) -> int:
        return len(self.trade_id)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages in the order the exchange sends them.

    `received_ns` never falls; `stream` is an index into the session's streams; `render` gives the
    messages' text in a form, as an Arrow binary array.
    """

    received_ns: Int64s
    stream: Int64s
    trades: TradeColumns
    render: Callable[[Form], pa.BinaryArray] = field(repr=False)

    def __len__(self) -> int:
        return len(self.received_ns)

    def lines(self, time_unit: TimeUnit) -> Iterator[Line]:
        """Yield (receive time in Unix nanoseconds, combined-stream message)."""
        messages = self.render(Form(time_unit)).to_pylist()
        return zip(self.received_ns.tolist(), messages, strict=True)

    def head(self, messages: int) -> Chunk:
        """Return the chunk cut to its first messages."""
        trades = int(np.searchsorted(self.trades.message, messages))
        return Chunk(
            self.received_ns[:messages],
            self.stream[:messages],
            _first(self.trades, trades),
            lambda form: self.render(form).slice(0, messages),
        )


def _first(trades: TradeColumns, rows: int) -> TradeColumns:
    return TradeColumns(
        trades.message[:rows],
        trades.symbol[:rows],
        trades.trade_id[:rows],
        trades.time_us[:rows],
        trades.price.slice(0, rows),
        trades.quantity.slice(0, rows),
        trades.is_buyer_maker[:rows],
    )
