"""What a process and the governor tell each other, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.degradation.level import Cause, Level, Rules

# (topic, partition)
Partition = tuple[str, int]
# How often a process reports that has anything to say, and one that does not say how often.
STEADY_S = 1.0
# And the most that one may leave between two reports: no governor waits longer for one.
MOST_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class OwnReport:
    """What only the service itself knows of its work; the defaults fit one that reads no topic.

    `positions` are the next offsets to decode. `lag` is how many positions up to the log's end are
    not decoded yet, over the partitions it has now; None where it cannot tell, which holds a level,
    save where there is no `consumer_group`: who reads no topic has no lag. `held` are those
    that wait at records which cannot be read: their lag is not in `lag`, for no level helps it.
    `restart_wanted`: only a process started anew gives its memory back.
    """

    consumer_group: str = ""
    positions: Mapping[Partition, int] = field(default_factory=dict)
    lag: int | None = None
    commit_failures: int = 0
    held: frozenset[Partition] = frozenset()
    restart_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says of itself, again within `every_s`. `epoch`: the newest it obeyed.

    `said_at_ms` is by its own clock that never steps.
    """

    service: str
    process: str
    memory_used_bytes: int
    memory_limit_bytes: int
    memory_baseline_bytes: int
    memory_level: Level
    applied_level: Level
    applied_lag_level: Level
    epoch: int
    own: OwnReport
    said_at_ms: int = 0
    every_s: float = STEADY_S


@dataclass(frozen=True, slots=True)
class Directive:
    """What one process is to do: full state, valid for `ttl_s`.

    It holds from its arrival, and no longer than one TTL from the report that it answers: the
    newest its governor had heard when it last was proven to lead. So neither a message that was
    long under way nor a governor that slept has a say after its time. `answers_ms` 0: no report.

    `policy` is the version that is demanded, empty for each its own; `override` is an operator's
    reason. With HOT_PARTITION shedding helps in the `hot_partitions` alone. `restart`: of those who
    want one for their memory's sake it is this process' turn.
    """

    epoch: int
    sequence: int
    ttl_s: float
    lag_level: Level
    memory_level: Level
    causes: tuple[Cause, ...] = ()
    writers: int = 1
    explanation: str = ""
    rules: Rules = field(default_factory=Rules)
    hot_partitions: frozenset[Partition] = frozenset()
    policy: str = ""
    override: str = ""
    answers_ms: int = 0
    restart: bool = False

    @property
    def level(self) -> Level:
        return max(self.lag_level, self.memory_level)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The process applies that directive, or says why it does not."""

    epoch: int
    sequence: int
    refused_because: str = ""
