"""`make simulate`: hours of a fleet on a virtual clock, under the real control code."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from libs.degradation.level import Level
from tests.simulation.promises import Promises, recovers, recovery_bound_s, unrecovered
from tests.simulation.weather import Weather
from tests.simulation.world import Size, World

CAPACITY_PER_S = 300_000.0
SAID_EVERY_S = 600.0


def simulate(
    writers: Annotated[int, typer.Option(min=1)] = 1_000,
    hours: Annotated[float, typer.Option(min=0.01)] = 2.0,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Let everything befall a fleet, end it, and wait for NORMAL; 1 where a promise is broken."""
    console = Console(highlight=False)
    size = Size(writers, 2 * writers, CAPACITY_PER_S / writers, step_s=1.0)
    world, began_s = World(size, seed), time.monotonic()
    promises, weather = Promises(world), Weather(world)
    while world.now_s < hours * 3_600:
        weather.pass_time(min(SAID_EVERY_S, hours * 3_600 - world.now_s), promises)
        console.print(f"[dim]{progress(world)}[/]")
    weather.calm()
    bound_s, calm_s = recovery_bound_s(world), world.now_s
    recovered = recovers(promises)
    for line in told(world, weather, promises):
        console.print(line)
    took_s = world.now_s - calm_s
    what = "NORMAL" if recovered else f"[red]not NORMAL: {'; '.join(unrecovered(world)[:9])}[/]"
    console.print(f"{what}, {took_s:.0f} s after the last mishap; {bound_s:.0f} s promised")
    console.print(f"[dim]{world.now_s / 3_600:.2f} h in {time.monotonic() - began_s:.0f} s[/]")
    if not recovered or promises.broken:
        sys.exit(1)


def progress(world: World) -> str:
    up = sum(writer.up(world.now_s) for writer in world.writers)
    leader = world.leader.name if world.leader else "nobody"
    return (
        f"{world.now_s / 60:5.0f} min: {world.level.name:13} {world.log.lag:>12,.0f} behind,"
        f" {up} writers up, {leader} leads"
    )


def told(world: World, weather: Weather, promises: Promises) -> list[str]:
    """Say what happened, and whether every promise held."""
    seen, done = world.seen, [writer.done for writer in world.writers]
    decoded, shed = sum(one.decoded for one in done), sum(one.shed for one in done)
    mishaps = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in weather.happened.items())
    at = ", ".join(f"{level.name} {seen.seconds_at[level] / 60:.0f} min" for level in Level)
    return [
        f"{len(world.writers):,} writers, {len(world.governors)} governors; befell: {mishaps}",
        f"levels: {at}; {len(seen.changes)} changes, most lag {seen.most_lag:,.0f}",
        (
            f"governors: {len(world.claims)} claims, {seen.undirected_s:.0f} s without a directive,"
            f" {sum(one.refusals for one in done):,} stale directives refused"
        ),
        (
            f"writers: {decoded:,.0f} records, {shed / decoded:.1%} of them shed,"
            f" {sum(one.restarts for one in done)} restarts for memory,"
            f" longest pause {max(one.longest_pause_s for one in done):.0f} s"
        ),
        *(f"[red]broken: {what}[/]" for what in promises.broken[:20]),
        f"{len(promises.broken)} promises broken",
    ]


if __name__ == "__main__":
    typer.run(simulate)
