"""What is seen of a K2 under attack at one moment, and what that adds up to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libs.degradation.level import Level


@dataclass(frozen=True, slots=True)
class ProcessSight:
    """One process as the governor knows it."""

    name: str
    service: str
    used_bytes: int
    limit_bytes: int
    memory_level: Level
    applied: Level

    @property
    def share(self) -> float:
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Governed:
    """The governor's state. No level: it has none yet, or nobody answers."""

    level: Level | None = None
    lag_level: Level = Level.NORMAL
    memory_level: Level = Level.NORMAL
    lag: int = 0
    causes: tuple[str, ...] = ()
    explanation: str = ""
    epoch: int = 0
    processes: tuple[ProcessSight, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What the writers say: what they have done, what waits, and why they stand still."""

    decoded: int = 0
    commits: int = 0
    dead_lettered: int = 0
    duplicates: int = 0
    open_records: int = 0
    open_classes: frozenset[str] = frozenset()
    backfilled: int = 0
    stopped_because: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """What the ingestor says of the exchange, since it started."""

    trades: int = 0
    gaps_open: int = 0
    missing: int = 0
    healed: int = 0
    reconnects: int = 0
    malformed: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything at one moment. `log_end` is the number of records that Kafka took."""

    at_s: float
    governed: Governed = field(default_factory=Governed)
    written: Written = field(default_factory=Written)
    received: Received = field(default_factory=Received)
    log_end: int = 0
    committed_rows: int = 0
    tail_rows: int = 0
    shed: Mapping[str, int] = field(default_factory=dict)
    backfilled: Mapping[str, int] = field(default_factory=dict)

    @property
    def level(self) -> Level | None:
        return self.governed.level

    @property
    def behind(self) -> int:
        """Records that no writer has decoded: measured here, beside the governor."""
        return max(0, self.log_end - self.written.decoded)


@dataclass(slots=True)
class Totals:
    """Counters of processes that may start again at zero, added up."""

    _last: dict[tuple[str, str], float] = field(default_factory=dict)
    by_name: Counter[str] = field(default_factory=Counter)

    def take(self, process: str, counters: Mapping[str, float]) -> None:
        """Take in what a process shows now; below what it showed before, it has started again."""
        for name, value in counters.items():
            before = self._last.get((process, name), 0.0)
            self.by_name[name] += round(value - before if value >= before else value)
            self._last[process, name] = value


@dataclass(slots=True)
class Levels:
    """The levels shown, one after the other, each with when it came."""

    seen: list[tuple[float, Level]] = field(default_factory=list)

    def take(self, at_s: float, level: Level | None) -> bool:
        """Take in the level shown now; return whether it is another one."""
        if level is None or (self.seen and self.seen[-1][1] is level):
            return False
        self.seen.append((at_s, level))
        return True

    @property
    def in_order(self) -> list[Level]:
        return [level for _, level in self.seen]

    def since(self, start_s: float, end_s: float = float("inf")) -> list[Level]:
        """Return what was shown from a moment on, the level of that moment first."""
        before = [level for at_s, level in self.seen if at_s <= start_s]
        return before[-1:] + [level for at_s, level in self.seen if start_s < at_s <= end_s]


def counters_in(page: str, name: str, label: str) -> dict[str, float]:
    """Read one counter from a Prometheus page, by one of its labels."""
    found: dict[str, float] = {}
    for line in _lines_of(page, f"{name}_total{{"):
        labels, _, value = line.partition("} ")
        quoted = labels.partition(f'{label}="')[2].partition('"')[0]
        found[quoted] = found.get(quoted, 0.0) + float(value)
    return found


def _lines_of(page: str, beginning: str) -> Iterable[str]:
    return (line for line in page.splitlines() if line.startswith(beginning))
