"""A process whose governor never comes back: what it has no lag of its own for."""

from __future__ import annotations

from libs.degradation.level import Level, Rules
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import Directive, OwnReport
from libs.degradation.obedience import Obedience, applied, hear, watch

RULES = Rules(cooldown_s=4.0)
TTL_S = 10.0
ROOMY = MemoryUse(1, 10)


def levels(own: OwnReport, seconds: int) -> list[Level]:
    """What it applies in each second after a directive of CIRCUIT_BREAK, the last of all."""
    last = Directive(1, 1, TTL_S, Level.CIRCUIT_BREAK, Level.NORMAL, rules=RULES)
    state, found = hear(Obedience(), last, 0.0)[0], []
    for second in range(seconds):
        state = watch(state, ROOMY, own, float(second))
        found.append(applied(state, float(second)).level)
    return found


def test_process_that_reads_no_topic_comes_down_level_by_level() -> None:
    """By the same machine, from the last level on, a cooldown for each.

    Else a query service would show, and a new governor take over, a level of long ago.
    """
    found = levels(OwnReport(), 60)
    first = [found.index(level) for level in sorted(Level, reverse=True)]
    assert first == [0, 14, 18, 22, 26]
    assert found == sorted(found, reverse=True)


def test_writer_that_cannot_read_its_lag_holds_its_level() -> None:
    """It has lag, and nobody knows how much: to fall would be a guess."""
    assert set(levels(OwnReport("k2-writer", lag=None), 600)) == {Level.CIRCUIT_BREAK}


def test_writer_that_knows_its_lag_comes_down_by_it() -> None:
    """Also one that has no partitions, and so no lag."""
    assert levels(OwnReport("k2-writer", lag=0), 60)[-1] is Level.NORMAL
