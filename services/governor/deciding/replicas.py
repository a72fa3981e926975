"""How many writers would keep up, and drain what waits in time. Pure.

Wanted at once is not asked for at once: a new writer moves partitions, and costs more than a short
burst does. So the number rises to what every reading of some time asked for, and falls to the
highest of a longer time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from services.governor.observing.flow import Flow


@dataclass(frozen=True, slots=True)
class ScaleRules:
    """`utilisation` is the share of a writer's capacity that is planned with."""

    drain_s: float = 120.0
    utilisation: float = 0.8
    up_after_s: float = 15.0
    down_after_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Work:
    """What the number goes by, now.

    `behind`: the writers had more than they could do for the whole window, so that what they
    decoded is what they can. `hindered` says why more writers would not help; empty where they
    would.
    """

    flow: Flow
    pressing: int
    writers: int
    partitions: int
    behind: bool
    shedding: bool
    hindered: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """The number, and since when another one is wanted: `nearest` is the least change wanted.

    `capacity_per_s` is the most that one writer decodes; only `measured` where it had more to do.
    """

    desired: int = 1
    because: str = "nothing is known yet of what a writer can do"
    capacity_per_s: float | None = None
    measured: bool = False
    nearest: int | None = None
    since_s: float = 0.0
    known: bool = False


def scaled(scale: Scale, work: Work, rules: ScaleRules, now_s: float) -> Scale:
    """Take a reading in."""
    seen = _with_capacity(scale, work)
    if seen.capacity_per_s is None:
        return _as_they_are(seen, work)
    wanted, because = _wanted(seen, work, rules)
    if wanted > seen.desired and (against := _against_more(seen, work)):
        wanted, because = seen.desired, f"{because}; but {against}"
    return replace(_towards(seen, wanted, rules, now_s), because=because)


def _as_they_are(scale: Scale, work: Work) -> Scale:
    """Ask for the writers there are, while nobody knows better; for none while none has come."""
    known = scale.known or work.writers > 0
    return replace(scale, desired=max(1, min(work.writers, work.partitions)), known=known)


def _against_more(scale: Scale, work: Work) -> str:
    return work.hindered or ("" if scale.measured else "the writers keep up, and may have room")


def _with_capacity(scale: Scale, work: Work) -> Scale:
    """Measure where the writers are behind; where they keep up they can at least what they do.

    Shed records are passed by, not decoded; a group that waits for something else shows what that
    can do; and what an unknown process decoded would make the known ones look quick.
    """
    rates = work.flow.rates
    if rates is None or rates.decoded <= 0 or not work.writers or not work.flow.whole:
        return scale
    if work.shedding or work.hindered:
        return scale
    each = rates.decoded / work.writers
    if work.behind:
        return replace(scale, capacity_per_s=each, measured=True)
    if each > (scale.capacity_per_s or 0.0):
        return replace(scale, capacity_per_s=each, measured=False)
    return scale


def _wanted(scale: Scale, work: Work, rules: ScaleRules) -> tuple[int, str]:
    rates = work.flow.rates
    if rates is None or scale.capacity_per_s is None:
        return scale.desired, "rates are not known yet"
    planned = scale.capacity_per_s * rules.utilisation
    needed = (max(rates.produced, 0.0) + work.pressing / rules.drain_s) / planned
    most = max(1, work.partitions)
    because = (
        f"{rates.produced:,.0f} records/s come, {work.pressing:,} wait to be drained within"
        f" {rules.drain_s:g} s, one writer decodes {scale.capacity_per_s:,.0f}/s of which"
        f" {rules.utilisation:.0%} is planned with"
    )
    if needed > most:
        because += f"; there are {most} partitions, and no use for more writers"
    return max(1, min(most, math.ceil(needed))), because


def _towards(scale: Scale, wanted: int, rules: ScaleRules, now_s: float) -> Scale:
    if wanted == scale.desired:
        return replace(scale, nearest=None)
    rises = wanted > scale.desired
    if scale.nearest is None or (scale.nearest > scale.desired) is not rises:
        return replace(scale, nearest=wanted, since_s=now_s)
    nearest = min(scale.nearest, wanted) if rises else max(scale.nearest, wanted)
    after_s = rules.up_after_s if rises else rules.down_after_s
    if now_s - scale.since_s < after_s:
        return replace(scale, nearest=nearest)
    return replace(scale, desired=nearest, nearest=None)
