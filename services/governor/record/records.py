"""What the topic of directives holds: one JSON record for each thing that happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from libs.degradation.level import Level
from services.governor.deciding.overrides import Override
from services.governor.leading.leadership import Leader

TOPIC = "k2.governor.directives"
Kind = Literal["claim", "directive", "sample", "override", "resignation"]
# What says what was seen and ordered, and not only who led.
SNAPSHOTS: frozenset[Kind] = frozenset({"directive", "sample"})


class RecordedPartition(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    partition: int
    end_offset: int
    decoded_offset: int
    held: bool = False


class RecordedGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """`level` is the one that its lag asks for, whatever an operator has set.

    `behind`, `hot` and `sink_down` are what was found of it: who sheds, where alone that helps, and
    whose commits fail. Rates are None where there was none yet. What its ladder remembers is
    recorded by how long ago it was: another governor's clock begins elsewhere.
    """

    group: str
    lag: int
    known: bool
    level: int
    partitions: tuple[RecordedPartition, ...] = ()
    desired_writers: int = 0
    desired_because: str = ""
    produced_per_s: float | None = None
    decoded_per_s: float | None = None
    capacity_per_s: float | None = None
    behind: tuple[str, ...] = ()
    hot: tuple[tuple[str, int], ...] = ()
    sink_down: tuple[str, ...] = ()
    fell_ago_s: float | None = None
    reversals_ago_s: tuple[float, ...] = ()


class RecordedDamping(msgspec.Struct, frozen=True, array_like=True):
    """The rest of the rules, beside the thresholds."""

    cooldown_s: float
    recovery_share: float
    reversals_to_double: int
    reversal_window_s: float
    most_cooldown_factor: int
    lag_samples_up: int
    sink_down_failures: int


class RecordedProcess(msgspec.Struct, frozen=True, array_like=True):
    process: str
    service: str
    memory_used_bytes: int
    memory_limit_bytes: int
    memory_level: int
    applied_level: int
    applied_lag_level: int


class Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One record. The epoch in a claim is its floor: see `Placed.epoch`."""

    kind: Kind
    process: str
    address: str
    epoch: int
    sequence: int = 0
    lag_level: int = 0
    memory_level: int = 0
    level_since_us: int = 0
    causes: tuple[str, ...] = ()
    writers: int = 1
    policy: str = ""
    restarting: str = ""
    override: Override | None = None
    explanation: str = ""
    lag_thresholds: tuple[float, ...] = ()
    memory_thresholds: tuple[float, ...] = ()
    damping: RecordedDamping | None = None
    groups: tuple[RecordedGroup, ...] = ()
    processes: tuple[RecordedProcess, ...] = ()

    @property
    def level(self) -> Level:
        return Level(max(self.lag_level, self.memory_level))


@dataclass(frozen=True, slots=True)
class Placed:
    """A record at its place in the log, with Kafka's own time."""

    offset: int
    time_us: int
    record: Record

    @property
    def epoch(self) -> int:
        """Of a claim: its offset, but never below its floor, for the topic may be made anew."""
        claimed = self.record.kind == "claim"
        return max(self.offset, self.record.epoch) if claimed else self.record.epoch

    @property
    def leader(self) -> Leader:
        return Leader(self.record.process, self.record.address, self.epoch)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    return _ENCODER.encode(record)


def decode(value: bytes | None) -> Record | None:
    """Read a record; None where it is none that this version knows."""
    try:
        return _DECODER.decode(value or b"")
    except msgspec.MsgspecError:
        return None
