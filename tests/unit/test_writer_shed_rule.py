"""What is put off goes by the cause of the level, not by the level alone."""

from __future__ import annotations

import pytest

from libs.degradation.level import Cause, Level
from libs.degradation.obedience import Applied
from libs.degradation.policy import Priority, load_policy
from services.writer.batching.shedding import rule_under

TOPIC = "market.crypto.trades.binance"
P3, P4 = (TOPIC, 3), (TOPIC, 4)
POLICY = load_policy("crypto")
AGGRESSIVE = frozenset(Priority) - {Priority.CRITICAL}


def put_off(
    *causes: Cause,
    lag: Level = Level.AGGRESSIVE,
    memory: Level = Level.NORMAL,
    hot: frozenset[tuple[str, int]] = frozenset(),
    spared: frozenset[str] = frozenset(),
    partition: tuple[str, int] = P3,
) -> frozenset[Priority]:
    levels = Applied(lag, memory, frozenset(causes), hot_partitions=hot)
    return rule_under(levels, POLICY, spared, 0).puts_off(partition)


def test_lag_puts_off_by_class() -> None:
    """All but the critical at AGGRESSIVE, and memory changes nothing of it."""
    assert put_off(Cause.LAG) == AGGRESSIVE
    assert put_off(Cause.LAG, Cause.MEMORY, memory=Level.GRACEFUL) == AGGRESSIVE


@pytest.mark.parametrize("memory", list(Level))
def test_memory_alone_puts_nothing_off(memory: Level) -> None:
    """Shedding gives no memory back."""
    assert not put_off(Cause.MEMORY, lag=Level.NORMAL, memory=memory)


def test_nothing_is_put_off_while_commits_fail() -> None:
    """It would not help: the lag is the sink's, and the ranges could not be committed either."""
    assert not put_off(Cause.LAG, Cause.SINK_DOWN, lag=Level.CIRCUIT_BREAK)


def test_only_the_hot_partition_is_put_off() -> None:
    """The others keep up; they lose nothing for it."""
    causes, hot = (Cause.LAG, Cause.HOT_PARTITION), frozenset({P4})
    assert put_off(*causes, hot=hot, partition=P4) == AGGRESSIVE
    assert not put_off(*causes, hot=hot, partition=P3)


def test_a_hot_partition_that_nobody_names_holds_nothing_back() -> None:
    """A governor that does not say which cannot keep all others from being put off."""
    assert put_off(Cause.LAG, Cause.HOT_PARTITION) == AGGRESSIVE


def test_a_topic_near_its_retention_is_spared_whatever_is_hot() -> None:
    """What waits there is to be written, not added to."""
    causes, hot = (Cause.LAG, Cause.HOT_PARTITION), frozenset({P3})
    assert not put_off(*causes, hot=hot, spared=frozenset({TOPIC}))
