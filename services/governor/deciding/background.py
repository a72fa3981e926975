"""What is behind the levels of each group: rates, causes, and the writers it would take. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from libs.degradation.level import Cause, Level
from libs.degradation.machine import Ladder
from libs.degradation.messages import Report
from services.governor.deciding import causes, replicas
from services.governor.deciding.causes import Findings, Looking
from services.governor.deciding.replicas import Scale, ScaleRules, Work
from services.governor.observing import flow
from services.governor.observing.flow import Flow

if TYPE_CHECKING:
    from services.governor.deciding.govern import Standing
    from services.governor.observing.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Settings:
    """What only the governor goes by. `hot_share`: of a group's lag, in one partition."""

    hot_share: float = 0.8
    scale: ScaleRules = field(default_factory=ScaleRules)


def studied(
    standing: Standing, before: Mapping[str, Ladder], fleet: Fleet, now_s: float
) -> Standing:
    """Look at what is behind the levels; `before` is where the ladders stood a reading ago."""
    names = standing.groups
    known = [name for name in names if standing.groups[name].known]
    flowing = replace(standing, flows={name: _flow(standing, name, now_s) for name in names})
    labelled = replace(flowing, why={name: _why(flowing, before, name) for name in names})
    findings = {name: causes.find(_looking(labelled, name, fleet)) for name in known}
    found = replace(labelled, findings={**standing.findings, **findings})
    scales = {name: _scale(found, name, fleet, now_s) for name in known}
    return replace(found, scales={**standing.scales, **scales})


def everywhere(standing: Standing) -> tuple[Cause, ...]:
    """All causes that hold for some group, in the order of their list."""
    found = {cause for finding in standing.findings.values() for cause in finding.causes}
    if not all(group.known for group in standing.groups.values()):
        found.add(Cause.MISSING_DATA)
    return tuple(cause for cause in Cause if cause in found)


def told_to(
    process: str, found: Findings, shared: tuple[Cause, ...], lag_level: Level, memory_level: Level
) -> tuple[Cause, ...]:
    """Causes of one process's levels, and of its group; a sink that is down is its own."""
    holds = {
        Cause.LAG: lag_level > Level.NORMAL,
        Cause.MEMORY: memory_level > Level.NORMAL,
        Cause.SINK_DOWN: process in found.sink_down,
        Cause.MISSING_DATA: Cause.MISSING_DATA in shared,
        Cause.OVERRIDE: Cause.OVERRIDE in shared,
    }
    return tuple(cause for cause in Cause if holds.get(cause, cause in found.causes))


def _flow(standing: Standing, name: str, now_s: float) -> Flow:
    normal = standing.ladders[name].level is Level.NORMAL
    return flow.on(standing.flows.get(name, Flow()), standing.groups[name], now_s, normal=normal)


def _why(standing: Standing, before: Mapping[str, Ladder], name: str) -> Cause | None:
    level = standing.ladders[name].level
    if level is Level.NORMAL:
        return None
    last = standing.why.get(name)
    rises = level > before.get(name, Ladder()).level
    return standing.flows[name].why_rising() or last if rises else last


def _looking(standing: Standing, name: str, fleet: Fleet) -> Looking:
    return Looking(
        standing.groups[name],
        standing.ladders[name].level,
        fleet,
        standing.rules,
        standing.settings.hot_share,
        standing.findings.get(name, causes.NONE),
        standing.why[name],
    )


def _scale(standing: Standing, name: str, fleet: Fleet, now_s: float) -> Scale:
    group, level = standing.groups[name], standing.ladders[name].level
    rules, flowing = standing.rules, standing.flows[name]
    reading = [m for m in fleet.of(name).values() if m.attached and m.report.own.positions]
    work = Work(
        flowing,
        group.pressing,
        len(reading),
        len(group.partitions),
        behind=flowing.least_lag >= rules.lag.soft * rules.damping.recovery_share,
        shedding=level >= Level.GRACEFUL,
        hindered=_hindered(standing.findings[name], [m.report for m in reading]),
    )
    return replicas.scaled(standing.scales.get(name, Scale()), work, standing.settings.scale, now_s)


def _hindered(found: Findings, reports: list[Report]) -> str:
    """Say why more writers would not help, where they would not."""
    if found.sink_down:
        return "the sink is down, and more writers would wait for it too"
    if found.hot:
        return "nearly all of it waits in one partition, which one writer reads"
    full = [report.process for report in reports if report.memory_level > Level.NORMAL]
    return f"{full[0]} is short of memory, which more writers do not mend" if full else ""
