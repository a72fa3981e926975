"""Whether anything is known of a symbol: trades by id, or records that are no rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from libs.lake.completeness.scope import Scope
from libs.lake.ledger.ledger import PartitionBook
from libs.market.errors import NotFoundError
from services.query.state import State


def knows(state: State, scope: Scope) -> bool:
    """Say whether trades of a symbol are held, by id, or records of its key are told of."""
    ledger = state.index.ledger
    known = chain(ledger.coverage, ledger.holes, state.tail.ids)
    books = (book for at, book in ledger.partitions.items() if scope.concerns(at))
    keys = (key for book in books for key in named_in(book))
    return any(scope.covers(series) for series in known) or scope.symbol in keys


def unknown(scope: Scope) -> NotFoundError:
    at = f" at {scope.exchange}" if scope.exchange else ""
    return NotFoundError(
        f"no trade of {scope.symbol}{at} is known; `k2 symbols` and ListSymbols name what there is",
        symbol=scope.symbol,
    )


def named_in(book: PartitionBook) -> Iterator[str]:
    yield from (dead.symbol for dead in book.dead)
    yield from (symbol for shed in book.shed for symbol in shed.symbols)
    yield from (symbol for lost in book.lost for symbol in lost.symbols)
