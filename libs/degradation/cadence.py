"""When a process says what it has read: less often where nothing is near what a level goes by.

Pure. With a hundred processes attached, what they report is most of what a governor does.
"""

from __future__ import annotations

from libs.degradation.level import Level
from libs.degradation.machine import lag_policy
from libs.degradation.messages import MOST_EVERY_S, STEADY_S, OwnReport, Report
from libs.degradation.obedience import Obedience, applied, writers

# Of the TTL: a directive holds one TTL from the report that it answers, so this is taken from it.
# A little longer than from one directive to the next, for a calm process reports with each.
CALM_SHARE = 0.25


def every_s(state: Obedience, own: OwnReport, now_s: float) -> float:
    """Longest time from this report to the next one."""
    if state.directive is None or not _calm(state, own, now_s):
        return STEADY_S
    return min(max(STEADY_S, CALM_SHARE * state.directive.ttl_s), MOST_EVERY_S)


def pressed(state: Obedience, own: OwnReport, now_s: float) -> bool:
    """Say whether the process's own lag demands more than it applies: worth telling at once."""
    demanded = lag_policy(state.rules, writers=writers(state)).thresholds.demanded(own.lag or 0)
    return demanded > applied(state, now_s).lag_level


def due(told: Report | None, now: Report, since_s: float, *, pressed: bool) -> bool:
    """Say whether to tell what is read now; `told` is what was told last, `since_s` ago."""
    if told is None or pressed or since_s >= now.every_s:
        return True
    moved = now.own.positions.keys() != told.own.positions.keys()
    return moved or now.memory_level is not told.memory_level


def answers(told: Report | None, since_s: float) -> bool:
    """Say whether to report on hearing a directive: those of all processes then come together.

    A hundred messages at once cost a governor half of what they cost one by one.
    """
    return told is not None and told.every_s > STEADY_S and since_s >= STEADY_S


def _calm(state: Obedience, own: OwnReport, now_s: float) -> bool:
    """Directed, at rest in both dimensions, with its lag below what SOFT may be left at."""
    if not state.directed(now_s) or applied(state, now_s).level > Level.NORMAL:
        return False
    if own.held or own.commit_failures or own.restart_wanted:
        return False
    if own.lag is None:
        return not own.consumer_group
    return own.lag < lag_policy(state.rules, writers=writers(state)).recovery_point(Level.SOFT)
