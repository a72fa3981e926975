"""Records in columns: what a consumer fetched, without one Python object a record.

aiokafka makes a ConsumerRecord of eleven fields for each record, 2.0 µs of the writer's 5.9 µs a
row; cut from the record batch by numpy the same values cost 0.3 µs. `deliver_runs` changes one
consumer alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.record.memory_records import MemoryRecords

from libs.kafka.record_batches import UNREADABLE, Opened, header_of, opened
from libs.kafka.record_columns import NO_KEYS, Keys
from libs.kafka.record_starts import Ints
from libs.kafka.unreadable import NamedRecords, parsed_by

# Batches are gathered up to so many records and cut together: at 200 records a batch that costs
# half of cutting each by itself, and what is decoded next costs a fifth less.
RECORDS_A_RUN = 4_096
# What one fetch brings of a partition, more or less: its batches are opened together.
RECORDS_AT_ONCE = 32_768


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one partition in offset order; they cover positions [start, following).

    `values` are of binary_view and hold all of what was fetched with them.

    Where compaction or a transaction's markers left holes, positions are more than records.
    `appended_ms` is when the log took the first of its batches, `stored_bytes` what its positions
    take there.
    """

    start: int
    following: int
    offsets: Ints
    values: pa.Array
    keys: Keys = NO_KEYS
    appended_ms: int = 0
    stored_bytes: int = 0


def deliver_runs(consumer: AIOKafkaConsumer) -> None:
    """Have a started consumer's getmany return lists of Run, and count them for max_records."""
    parsed_by(consumer, PartitionRecords=PartitionRuns, MemoryRecords=FetchedBatches)


class FetchedBatches:
    """The record batches of one response, each with its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._batches = MemoryRecords(data)
        self._at = 0

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def size_in_bytes(self) -> int:
        return int(self._batches.size_in_bytes())

    def next_batch(self) -> tuple[Any, memoryview]:
        start = self._at
        self._at += 12 + int.from_bytes(self._data[start + 8 : start + 12], "big")
        return self._batches.next_batch(), self._data[start : self._at]


class PartitionRuns(NamedRecords):
    """Yields Run where its parent yields records; what is skipped is the parent's to say."""

    def _parsed(self) -> Iterator[Run]:
        """Yield what can be read, then raise what the next batch raises, if anything."""
        gathered = _Gathered(self.next_fetch_offset)
        while self._gathers_next(gathered):
            if gathered.records >= RECORDS_AT_ONCE:
                yield from self._delivered(gathered)
                gathered = _Gathered(self.next_fetch_offset)
        yield from self._delivered(gathered)
        if gathered.ends_with is not None:
            raise gathered.ends_with

    def _gathers_next(self, gathered: _Gathered) -> bool:
        """Take in the next batch; False where there is none, or where it is none."""
        try:
            if not self._records.has_next():
                return False
            batch, raw = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            gathered.add(raw, batch.next_offset, skipped=self._is_skipped(batch))
        except (KafkaError, *UNREADABLE) as error:
            gathered.ends_with = error
        return gathered.ends_with is None

    def _delivered(self, gathered: _Gathered) -> Iterator[Run]:
        """Go on as each run is taken: who stops in between is to read the rest again."""
        for run in gathered.runs():
            self.next_fetch_offset = run.following
            yield run
        self.next_fetch_offset = gathered.following

    def _is_skipped(self, batch: Any) -> bool:
        """Follow the transactions: markers are no records, nor is what was aborted."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)


class _Gathered:
    """Batches in a row, to become runs."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._batches: list[memoryview] = []
        self._ends: list[int] = []
        self.following = start
        self.records = 0
        self.ends_with: Exception | None = None

    def add(self, batch: memoryview, following: int, *, skipped: bool) -> None:
        """Take a batch in; its positions are covered also where nothing is taken of it."""
        count = 0 if skipped else header_of(batch).records
        self.following = following
        # Compaction keeps a batch that it has emptied.
        if count:
            self._batches.append(batch)
            self._ends.append(following)
            self.records += count

    def runs(self) -> Iterator[Run]:
        """Cut runs of whole batches; the last covers what is skipped after it.

        Raises one of UNREADABLE where a batch is none, behind the runs of those before it.
        """
        if not self._batches:
            return
        try:
            whole = opened(self._batches)
        except UNREADABLE:
            if len(self._batches) == 1:
                raise
            for alone in self._apart():
                yield from alone.runs()
            return
        first, start = 0, self._start
        for stop in stops([header.records for header in whole.headers]):
            is_last = stop == len(self._batches)
            until = self.following if is_last else self._ends[stop - 1]
            yield self._run(whole, first, stop, start, until)
            first, start = stop, until

    def _apart(self) -> Iterator[_Gathered]:
        """Give each batch by itself; the last with what is skipped after it."""
        start = self._start
        for batch, end in zip(self._batches, self._ends, strict=True):
            alone = _Gathered(start)
            alone.add(batch, end, skipped=False)
            start = end
            if batch is self._batches[-1]:
                alone.following = self.following
            yield alone

    def _run(self, whole: Opened, first: int, stop: int, start: int, until: int) -> Run:
        records = whole.cut(first, stop)
        skipped = int(np.searchsorted(records.offsets, start))
        header = whole.headers[first]
        share = (until - start) / (until - min(header.base_offset, start))
        return Run(
            start,
            until,
            records.offsets[skipped:],
            records.values.slice(skipped),
            records.keys.after(skipped),
            appended_ms=header.max_timestamp_ms,
            stored_bytes=round(share * sum(map(len, self._batches[first:stop]))),
        )


def stops(counts: Sequence[int]) -> Iterator[int]:
    """Yield after how many batches each run ends: as soon as it has records enough."""
    records = 0
    for at, count in enumerate(counts, 1):
        records += count
        if records >= RECORDS_A_RUN or at == len(counts):
            yield at
            records = 0
