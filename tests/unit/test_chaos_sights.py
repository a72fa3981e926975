"""What a chaos run adds up from what it sees, and the truth of its flood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest

from libs.degradation.level import Level
from libs.degradation.policy import Priority
from libs.market.bucket import bucket_of
from libs.wire.trades import decode_trade
from tools.chaos.digest import CONTENT, digest
from tools.chaos.flood import (
    ALIKE,
    ALL_SYMBOLS,
    BY_CLASS,
    FIRST_ID,
    SURGE,
    SURGING,
    Flood,
    encoded,
)
from tools.chaos.ground import priorities
from tools.chaos.scale import Scale
from tools.chaos.scenarios import SCENARIOS
from tools.chaos.sights import Levels, Totals, counters_in
from tools.simulator.truth import ExpectedTrades

START_US = 1_700_000_000_000_000
Rows = Mapping[str, Sequence[object]]
PAGE = """# HELP k2_writer_shed_records_total Records put off
k2_writer_shed_records_total{class="low",process="writer-1"} 12.0
k2_writer_shed_records_total{class="high",process="writer-1"} 3.0
k2_writer_shed_records_created{class="low"} 1.7e9
k2_writer_fetched_records_total 99.0
"""


def test_counters_are_read_by_their_label() -> None:
    """That counter alone."""
    found = counters_in(PAGE, "k2_writer_shed_records", "class")
    assert found == {"low": 12.0, "high": 3.0}


def test_counters_go_on_over_a_restart() -> None:
    """A process that starts again begins at zero; what it counted before stays counted."""
    totals = Totals()
    for page in ({"low": 5.0}, {"low": 8.0}, {"low": 2.0}, {"low": 3.0}):
        totals.take("writer-1", page)
    totals.take("writer-2", {"low": 100.0})
    assert totals.by_name["low"] == 8 + 3 + 100


def test_levels_are_noted_when_they_change() -> None:
    """No level at all changes nothing; a stretch begins with the level that held."""
    levels = Levels()
    changes = [
        levels.take(at_s, level)
        for at_s, level in enumerate(
            (None, Level.NORMAL, Level.NORMAL, Level.SOFT, None, Level.SOFT, Level.NORMAL)
        )
    ]
    assert changes == [False, True, False, True, False, False, True]
    assert levels.in_order == [Level.NORMAL, Level.SOFT, Level.NORMAL]
    assert levels.since(4) == [Level.SOFT, Level.NORMAL]
    assert levels.since(1.5, 3) == [Level.NORMAL, Level.SOFT]


def test_the_flood_has_symbols_of_each_class_and_none_holds_the_others_up() -> None:
    """A policy that does not know them would make all of them normal."""
    classes = priorities()
    assert {classes[symbol] for symbol in BY_CLASS} == set(Priority)
    assert {classes[symbol] for symbol in SURGE} == {Priority.CRITICAL}
    assert {classes[s] for s in classes.keys() - set(ALL_SYMBOLS)} == set(Priority)
    for mix in (ALIKE, SURGING):
        shares = np.zeros(16)
        for symbol, share in mix.items():
            shares[bucket_of(symbol)] += share
        assert shares.sum() == pytest.approx(1)
        assert shares.max() < 0.3, "a partition with most of the lag is another matter"


def test_what_the_flood_sends_is_what_it_says_it_sent() -> None:
    """The records decode to the very columns that the truth is summed up from."""
    ids = np.arange(FIRST_ID, FIRST_ID + 2_000)
    trades = [decode_trade(value) for value in encoded("LOW1USDT", ids, START_US, 1).to_pylist()]
    rows: Rows = {
        "source_sequence": [trade.source_sequence for trade in trades],
        "price": [trade.price for trade in trades],
        "quantity": [trade.quantity for trade in trades],
        "time_us": [trade.timestamp_us for trade in trades],
        "is_sell": [trade.side == "SELL" for trade in trades],
    }
    assert digest("LOW1USDT", table_of(rows)) == expected_of(2_000)


def expected_of(count: int) -> ExpectedTrades:
    flood = Flood(None, "topic", 1, START_US)
    flood.sent["LOW1USDT"] = count
    return flood.expected("LOW1USDT")


def table_of(rows: Rows) -> pa.Table:
    return pa.table({name: pa.array(rows[name], CONTENT.field(name).type) for name in rows})


def test_a_digest_knows_every_value_and_no_order() -> None:
    """Rows come in any order; one more of an id changes nothing, another value does."""
    rows: Rows = {
        "source_sequence": [1, 2, 3],
        "price": ["1.5", "2", "3"],
        "quantity": ["1", "1", "1"],
        "time_us": [1, 2, 3],
        "is_sell": [True, False, True],
    }
    whole = as_trades(rows)
    shuffled = whole.take([2, 0, 1, 0])
    assert digest("A", shuffled) == digest("A", whole)
    for name, other in {"price": "9", "quantity": "9", "time_us": 9, "is_sell": False}.items():
        changed = as_trades({**rows, name: [other, *rows[name][1:]]})
        assert digest("A", changed) != digest("A", whole), name
    assert digest("A", whole.slice(0, 2)).count == 2


def as_trades(rows: Rows) -> pa.Table:
    columns = {name: pa.array(values) for name, values in rows.items()}
    return pa.table(columns).cast(CONTENT)


def test_a_scale_says_all_that_it_changes() -> None:
    """What is printed are the settings that the services are given."""
    scale = Scale(lag=0.02, cooldown_s=1.5, writer_limit_mib=450)
    said = " ".join(scale.sentences())
    for figure in ("2,000, 10,000, 20,000, 100,000", "450 MiB", "1.5 s of rest", "95%"):
        assert figure in said
    variables = scale.variables()
    assert variables["governor"]["K2_GOVERNOR_LAG_SCALE"] == "0.02"
    assert variables["writer"]["K2_MEMORY_LIMIT_BYTES"] == "450MiB"


def test_the_quick_scale_is_quicker_and_keeps_the_limit() -> None:
    """Memory has no scale: its limit is what it is."""
    for scenario in SCENARIOS.values():
        quick = scenario.scale.quicker()
        assert quick.lag < scenario.scale.lag
        assert quick.cooldown_s < scenario.scale.cooldown_s
        assert quick.writer_limit_mib == scenario.scale.writer_limit_mib
