"""What of a fetch waits for later, when the writer is behind. Pure.

It goes by the key alone, before anything is decoded. What has no key, or one that is no text, is
never put off: nobody could say afterwards which records of the range wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.degradation.level import Cause, Level
from libs.degradation.obedience import Applied
from libs.degradation.policy import SHED_AT, Priority, PriorityPolicy
from libs.kafka.topics import exchange_of
from libs.lake.ledger.ledger import Shed

if TYPE_CHECKING:
    from libs.wire.trades import Rejected
    from services.writer.intake.positions import Partition
    from services.writer.messages import RawChunk

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShedRule:
    """What to put off now: by the level that lag is the cause of, never by memory.

    `spared` are topics that retention is too near to. Where one partition holds up the others,
    only what is in the `hot` ones is put off; empty: in all.
    """

    policy: PriorityPolicy
    level: Level = Level.NORMAL
    spared: frozenset[str] = frozenset()
    at_us: int = 0
    hot: frozenset[Partition] = frozenset()

    def puts_off(self, partition: Partition) -> frozenset[Priority]:
        if partition[0] in self.spared or (self.hot and partition not in self.hot):
            return frozenset()
        return SHED_AT[self.level]


def rule_under(
    levels: Applied, policy: PriorityPolicy, spared: frozenset[str], at_us: int
) -> ShedRule:
    """Return what helps at these levels, by their causes.

    While commits fail nothing is put off: the ranges could not be committed either.
    """
    level = Level.NORMAL if Cause.SINK_DOWN in levels.causes else levels.lag_level
    hot = levels.hot_partitions if Cause.HOT_PARTITION in levels.causes else frozenset()
    return ShedRule(policy, level, spared, at_us, hot)


@dataclass(frozen=True, slots=True)
class Split:
    """What of a chunk goes on, and what is put off: how many records of each class."""

    kept: RawChunk
    shed: tuple[Shed, ...] = ()
    put_off: Mapping[Priority, int] = field(default_factory=dict)


def split(chunk: RawChunk, rule: ShedRule) -> Split:
    """Put records off by their key; both halves cover the chunk's positions.

    The range is named as wide as the chunk, so that it joins with its neighbours.
    """
    classes = rule.puts_off(chunk.partition)
    if not classes or not len(chunk.offsets):
        return Split(chunk)
    encoded = chunk.keys.dictionary_encode()
    symbols = [text_of(key) for key in encoded.dictionary.to_pylist()]
    found = priorities(symbols, exchange_of(chunk.partition[0]), rule.policy)
    # A null key has no index: it takes the place after the last, where nothing waits.
    place = pc.fill_null(encoded.indices, len(found)).to_numpy(zero_copy_only=False)
    waits = np.array([priority in classes for priority in (*found, None)])[place]
    if not waits.any():
        return Split(chunk)
    waiting = [symbol for symbol, cls in zip(symbols, found, strict=True) if cls in classes]
    shed = Shed(
        chunk.start,
        chunk.following,
        tuple(cls.value for cls in Priority if cls in classes),
        rule.policy.version,
        tuple(sorted(waiting)),
        int(waits.sum()),
        rule.at_us,
    )
    return Split(without(chunk, waits), (shed,), by_class(found, place[waits]))


def priorities(
    symbols: Iterable[str], exchange: str, policy: PriorityPolicy
) -> list[Priority | None]:
    return [policy.priority_of(exchange, symbol) if symbol else None for symbol in symbols]


def classes_in(chunk: RawChunk, policy: PriorityPolicy) -> Mapping[Priority, int]:
    """Count a chunk's records by the class of their symbol; what names none is in no class."""
    counted = chunk.keys.value_counts()
    symbols = [text_of(key) for key in counted.field("values").to_pylist()]
    found = priorities(symbols, exchange_of(chunk.partition[0]), policy)
    total: Counter[Priority] = Counter()
    for priority, records in zip(found, counted.field("counts").to_pylist(), strict=True):
        if priority is not None:
            total[priority] += records
    return total


def by_class(
    found: Sequence[Priority | None], place: npt.NDArray[np.int32]
) -> Mapping[Priority, int]:
    counted: Counter[Priority] = Counter()
    for priority, records in zip(found, np.bincount(place).tolist(), strict=False):
        if priority is not None and records:
            counted[priority] += records
    return counted


def only(chunk: RawChunk, symbols: Iterable[str]) -> RawChunk:
    """Return the records whose key is one of the symbols: those that a range of the ledger owes.

    What stands behind the chunk's last position is left out too.
    """
    keys = pa.array([symbol.encode() for symbol in symbols], pa.binary())
    owed = pc.is_in(chunk.keys, value_set=keys).to_numpy(zero_copy_only=False)
    return without(chunk, ~owed | (chunk.offsets >= chunk.following))


def without(chunk: RawChunk, left_out: Mask) -> RawChunk:
    kept = pa.array(~left_out)
    return replace(
        chunk,
        offsets=chunk.offsets[~left_out],
        values=chunk.values.cast(pa.binary()).filter(kept),
        key_parts=(chunk.keys.filter(kept),),
    )


def with_symbols(rejected: tuple[Rejected, ...], chunk: RawChunk) -> tuple[Rejected, ...]:
    """Name the symbol of records that are no trades, as far as their key does."""
    if not rejected or not len(chunk.keys):
        return rejected
    at = np.searchsorted(chunk.offsets, [one.offset for one in rejected])
    keys = chunk.keys.take(pa.array(at)).to_pylist()
    return tuple(replace(one, symbol=text_of(key)) for one, key in zip(rejected, keys, strict=True))


def text_of(key: bytes | None) -> str:
    """Return the symbol that a key is, empty where it is none."""
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        return ""
