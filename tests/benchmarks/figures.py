"""What a measurement found, and the arithmetic of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Aim:
    """Which of a figure's values is to be at least, or at most, so much."""

    value: str
    bound: float
    at_least: bool = False

    def met_by(self, values: Mapping[str, float]) -> bool:
        found = values[self.value]
        return found >= self.bound if self.at_least else found <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    values: Mapping[str, float]
    unit: str
    aim: Aim | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Say whether the aim is met; None where there is none."""
        return None if self.aim is None else self.aim.met_by(self.values)


@dataclass(frozen=True, slots=True)
class Reading:
    """How much was done by some moment, and the CPU time and time that had passed by then."""

    done: int
    cpu_s: float
    wall_s: float


def throughput(name: str, before: Reading, after: Reading, *, aim: float, note: str) -> Figure:
    """Make a figure of what was done between two readings."""
    done = after.done - before.done
    cpu_s, wall_s = after.cpu_s - before.cpu_s, after.wall_s - before.wall_s
    values = {"per CPU-s": done / cpu_s, "per s": done / wall_s}
    measured = f"{note}; {done:,} in {cpu_s:.1f} s of CPU and {wall_s:.1f} s"
    return Figure(name, values, "", Aim("per CPU-s", aim, at_least=True), measured)


@dataclass(slots=True)
class Peaks:
    """The highest memory of each service over several runs, and in which run that was."""

    by_service: dict[str, tuple[int, str]] = field(default_factory=dict)

    def saw(self, service: str, size_bytes: int, during: str) -> None:
        if size_bytes > self.by_service.get(service, (0, ""))[0]:
            self.by_service[service] = (size_bytes, during)

    def figures(self) -> list[Figure]:
        return [
            Figure(f"peak memory, {service}", {"MiB": size / 2**20}, "MiB", note=during)
            for service, (size, during) in sorted(self.by_service.items())
        ]
