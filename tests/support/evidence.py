"""The oracle's evidence, read from a real log, table, ledger and dead-letter topic."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import ConsumerRecord
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from libs.kafka.admin import end_offsets
from libs.kafka.dead_letters import read
from libs.kafka.topics import dead_letter_topic
from libs.lake.commits.seam import (
    EMPTY_SEAM,
    MissingSeamError,
    TopicPartition,
    seam_at,
    seam_of,
)
from libs.lake.ledger.store import ledger_location
from libs.lake.ledger.store import read as read_ledger
from libs.lake.table.durable import local_path
from libs.lake.table.tables import TRADES
from libs.market.trade import Trade
from libs.wire.rejection import RejectedError
from libs.wire.trades import decode_trade
from tests.support.ingesting import records_of
from tests.support.oracle import (
    LETTERS,
    LOGGED,
    STORED,
    Evidence,
    SnapshotSeen,
    assert_sound,
    rows_of,
    undrained,
)
from tests.support.writer import Writing

Row = tuple[object, ...]

NO_TRADE: Row = (None,) * 10
# The oracle's names for the table's columns.
COLUMNS = {
    "kafka_topic": "topic",
    "kafka_partition": "partition",
    "kafka_offset": "offset",
    "sequence_epoch": "epoch",
    "source_sequence": "sequence",
    "timestamp": "time_us",
}


@dataclass
class Log:
    """Everything that a topic ever held: what Kafka forgets is kept here once it was read."""

    bootstrap: str
    topic: str
    rows: dict[tuple[int, int], Row] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    _read_to: dict[int, int] = field(default_factory=dict)

    async def read(self) -> None:
        """Read what is there now; do so before anything is deleted from the log."""
        for record in await records_of(self.bootstrap, self.topic, self._read_to):
            self.rows[record.partition, record.offset] = logged_row(record)
            self._read_to[record.partition] = record.offset + 1
        self.ends = await end_offsets(self.bootstrap, self.topic)

    def table(self) -> pa.Table:
        return rows_of(LOGGED, list(self.rows.values()))


def logged_row(record: ConsumerRecord) -> Row:
    key = (record.key or b"").decode(errors="replace")
    place = (record.topic, record.partition, record.offset, key)
    try:
        return place + said(decode_trade(record.value))
    except RejectedError:
        return place + NO_TRADE


def said(trade: Trade) -> Row:
    return (
        trade.exchange,
        str(trade.asset_class),
        trade.symbol,
        trade.sequence_epoch,
        trade.source_sequence,
        trade.trade_id,
        trade.price,
        trade.quantity,
        str(trade.side),
        trade.timestamp_us,
    )


async def evidence_of(writing: Writing, log: Log | None = None) -> Evidence:
    """Gather all that the oracle must know of a test's topic and table."""
    log = log or Log(writing.bootstrap, writing.topic)
    await log.read()
    letters = await letters_of(log.bootstrap, log.topic)
    table = await asyncio.to_thread(writing.lake.load_table, TRADES)
    stored = await asyncio.to_thread(stored_rows, table)
    return Evidence(
        logged=log.table(),
        stored=stored.filter(pc.field("topic") == log.topic),
        letters=letters,
        seam=seam_of(table.metadata),
        ends={TopicPartition(log.topic, p): end for p, end in log.ends.items()},
        ledger=read_ledger(table.io, ledger_location(table.metadata)),
        snapshots=tuple(snapshots_of(table)),
        files_missing=tuple(sorted(missing(referenced(table)))),
    )


async def prove(writing: Writing, log: Log | None = None) -> Evidence:
    """Fail unless every position produced has its one fate, and nothing is on its way."""
    evidence = await evidence_of(writing, log)
    assert_sound(evidence)
    assert not undrained(evidence)
    return evidence


async def letters_of(bootstrap: str, topic: str) -> pa.Table:
    """Return the positions of which there is a dead letter, each once."""
    records = await records_of(bootstrap, dead_letter_topic(topic))
    places = {read(record).position for record in records}
    return rows_of(LETTERS, sorted(place for place in places if place[0] == topic))


def stored_rows(table: Table) -> pa.Table:
    """Read every row through PyIceberg alone."""
    wanted = {COLUMNS_BACK.get(name, name): name for name in STORED.names}
    rows = table.scan(selected_fields=tuple(wanted)).to_arrow()
    columns = [rows[column].cast(kind_of(name)) for column, name in wanted.items()]
    return pa.table(columns, schema=STORED)


COLUMNS_BACK = {name: column for column, name in COLUMNS.items()}


def kind_of(name: str) -> pa.DataType:
    return STORED.field(name).type


def snapshots_of(table: Table) -> Iterator[SnapshotSeen]:
    """Yield the log of snapshots in its order; one of other tools says nothing new of offsets."""
    seam = EMPTY_SEAM
    for entry in table.metadata.snapshot_log:
        if snapshot := table.metadata.snapshot_by_id(entry.snapshot_id):
            with suppress(MissingSeamError):
                seam = seam_at(table.metadata, snapshot)
            yield SnapshotSeen(entry.snapshot_id, entry.timestamp_ms, seam, is_foreign(snapshot))


def is_foreign(snapshot: Snapshot) -> bool:
    """Say whether K2 said nothing at all of a snapshot."""
    said = snapshot.summary.additional_properties if snapshot.summary else {}
    return not any(key.startswith("k2.") for key in said)


def referenced(table: Table) -> set[str]:
    """Return every file that the table's metadata names, by any kept snapshot."""
    metadata = table.metadata
    files = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    manifests = set()
    for snapshot in metadata.snapshots:
        files.add(snapshot.manifest_list)
        manifests |= set(snapshot.manifests(table.io))
    for manifest in manifests:
        files.add(manifest.manifest_path)
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        files |= {entry.data_file.file_path for entry in entries}
    return files


def missing(locations: Iterable[str]) -> Iterator[str]:
    """Yield the files that are not there; old metadata files may go."""
    for location in locations:
        path = local_path(location)
        if path is not None and not path.exists() and not path.name.endswith(".metadata.json"):
            yield location


def dangling(table: Table) -> set[Path]:
    """Return the files in the table's folder that nothing in its metadata names."""
    folder = local_path(table.location())
    assert folder is not None
    named = {local_path(location) for location in referenced(table)}
    return {path for path in folder.rglob("*") if path.is_file() and path not in named}
