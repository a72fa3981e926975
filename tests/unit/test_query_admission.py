"""What a query costs, and which are let in at which level."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from libs.degradation.level import Level
from libs.degradation.policy import load_policy
from libs.kafka.topics import TRADES_BINANCE
from libs.lake.completeness.scope import Scope
from libs.lake.table.tables import bucket_of
from libs.market.errors import ExhaustedError, NotFoundError
from services.query.admission import Admission, Asked, ShortOfMemoryError, critical_by
from services.query.asked import Order, Selection, Times
from services.query.cost import Cost, cost_of
from services.query.queries import Queries
from services.query.reading.engine import Pool
from services.query.reading.rows import FIRST_BAND_FACTOR, Listing
from services.query.state import Board, State
from tests.support.query import FIRST_US, history_in, renumbered, tail_of, trade_rows
from tools.cli.application import sentence_of

SECOND_US = 1_000_000
CRITICAL = Asked("ListTrades", "BTCUSDT", "BINANCE")
OTHER = Asked("ListTrades", "DOGEUSDT", "BINANCE")


def admission(level: Level, heavy_bytes: int = 800) -> Admission:
    is_critical = critical_by(load_policy("crypto"), ["BINANCE"])
    return Admission(
        lambda: level,
        is_critical=is_critical,
        heavy_bytes=heavy_bytes,
        retry_after_s=lambda: 7,
    )


def let_in(level: Level, asked: Asked, size_bytes: int) -> bool:
    door = admission(level)
    try:
        door.enter(asked)
        door.weigh(asked, lambda: Cost(1, size_bytes, 1))
    except ShortOfMemoryError:
        return False
    return True


@pytest.mark.parametrize(
    ("level", "critical", "other"),
    [
        (Level.NORMAL, 10**12, 10**12),
        (Level.SOFT, 10**12, 10**12),
        (Level.GRACEFUL, 800, 800),
        (Level.AGGRESSIVE, 100, -1),
        (Level.CIRCUIT_BREAK, -1, -1),
    ],
)
def test_levels_refuse_the_heavy_first(level: Level, critical: int, other: int) -> None:
    """Up to so many bytes, of a critical symbol and of another; -1 is none at all."""
    for asked, most in ((CRITICAL, critical), (OTHER, other)):
        if most >= 0:
            assert let_in(level, asked, most)
        if most < 10**12:
            assert not let_in(level, asked, most + 1)


def test_what_names_no_symbol_is_not_critical() -> None:
    """Neither is a symbol's name at another exchange."""
    is_critical = critical_by(load_policy("crypto"), ["BINANCE"])
    assert is_critical("", "BTCUSDT")
    assert not is_critical("", "")
    assert not is_critical("KRAKEN", "BTCUSDT")


def test_a_refusal_says_what_to_do() -> None:
    """The command's sentence has the level, the estimate, and when to try again."""
    with pytest.raises(ExhaustedError) as refused:
        admission(Level.GRACEFUL).weigh(OTHER, lambda: Cost(5_000, 3 * 2**30, 12))
    sentence = sentence_of(refused.value)
    assert "GRACEFUL" in sentence
    assert "5,000 rows, 3 GiB in 12 data files" in sentence
    assert sentence.endswith("try again in 7 s")


def test_nothing_is_estimated_while_memory_is_there() -> None:
    """The estimate costs nothing where it does not matter."""
    estimated: list[Level] = []

    def estimate(level: Level) -> Cost:
        estimated.append(level)
        return Cost(0, 0, 0)

    for level in (Level.NORMAL, Level.SOFT, Level.GRACEFUL):
        admission(level).weigh(OTHER, partial(estimate, level))
    assert estimated == [Level.GRACEFUL]


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Two symbols in one commit, 4,000 rows of one and 1,000 of the other; some in the tail."""
    history = history_in(tmp_path)
    history.commit(trade_rows("BTCUSDT", range(4_000), partition=1), {1: (0, 4_000)})
    history.commit(trade_rows("ETHUSDT", range(1_000), partition=2), {2: (0, 1_000)})
    return history.state(tail_of(trade_rows("BTCUSDT", range(4_000, 4_100), partition=1)))


def listing(symbol: str = "", first_s: int = 0, last_s: int = 10**6, columns: str = "") -> Listing:
    times = Times(FIRST_US + first_s * SECOND_US, FIRST_US + last_s * SECOND_US)
    return Listing(Selection(symbol, times=times), tuple(columns.split()), Order.NEWEST_FIRST)


def test_a_symbol_costs_its_own_rows(state: State) -> None:
    """As many as the ledger holds of it, and those of the tail."""
    assert cost_of(state, listing("BTCUSDT")).rows == 4_100
    assert cost_of(state, listing("ETHUSDT")).rows == 1_000
    assert cost_of(state, listing()).rows == 5_100
    assert cost_of(state, listing("NOPE")).bytes == 0


def test_times_columns_and_limits_make_a_query_cheaper(state: State) -> None:
    """Half the time is about half the rows; few columns are few bytes; a page is a page."""
    whole = cost_of(state, listing("BTCUSDT", last_s=4_000))
    half = cost_of(state, listing("BTCUSDT", last_s=2_000))
    assert half.rows == pytest.approx(whole.rows / 2, rel=0.01)
    narrow = cost_of(state, listing("BTCUSDT", last_s=4_000, columns="price"))
    assert 0 < narrow.bytes < whole.bytes / 2
    assert cost_of(state, listing("BTCUSDT"), 10).rows == 10 * FIRST_BAND_FACTOR + 10


class NothingRead:
    """A pool in which no query may run."""

    async def run(self, query: object) -> None:
        raise AssertionError(f"{query} was run")


def queries_over(state: State, level: Level) -> Queries:
    board = Board()
    board.publish(state)
    pool = cast("Pool", NothingRead())
    return Queries(board, pool, pool, admission(level))


def committed_rows(folder: Path, rows: pa.RecordBatch) -> State:
    """Commit rows of BTCUSDT where they belong."""
    history = history_in(folder)
    history.commit(rows, {bucket_of("BTCUSDT"): (0, rows.num_rows)})
    return history.state(tail_of())


@pytest.mark.parametrize("level", [Level.NORMAL, Level.GRACEFUL])
async def test_no_footer_is_read_for_a_symbol_that_nobody_knows(state: State, level: Level) -> None:
    """Every trade here has an id, so the ledger names all symbols."""
    with pytest.raises(NotFoundError):
        await queries_over(state, level).state_knowing(Scope("NOPEUSDT"))


async def test_footers_are_weighed_where_trades_have_no_id(tmp_path: Path) -> None:
    """Only footers can tell of such a symbol, and there may be many."""
    without_ids = renumbered(trade_rows("BTCUSDT", range(9)), [None] * 9)
    queries = queries_over(committed_rows(tmp_path, without_ids), Level.GRACEFUL)
    with pytest.raises(ShortOfMemoryError):
        await queries.state_knowing(Scope("BTCUSDT"))


async def test_ids_past_a_bound_are_weighed_before_they_are_looked_up(tmp_path: Path) -> None:
    """A bound in the past makes an answer read what came after it, too."""
    state = committed_rows(tmp_path, trade_rows("BTCUSDT", range(4_000)))
    queries = queries_over(state, Level.GRACEFUL)
    below = Selection("BTCUSDT", ceiling={TRADES_BINANCE: {bucket_of("BTCUSDT"): 10}})
    with pytest.raises(ShortOfMemoryError):
        await queries.bound_of(state, below)
