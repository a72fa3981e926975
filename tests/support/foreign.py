"""What other tools do to K2's table: through PyIceberg, and none of K2's own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate

from tests.support.evidence import dangling
from tests.support.trades import trade_rows


def append(table: Table, rows: int = 50) -> None:
    """Append rows as any other writer would, who knows nothing of offsets."""
    table.append(trade_rows(rows, seed=99))


def rewrite(table: Table, most_files: int = 3) -> int:
    """Rewrite some data files as copies under other names, as one `replace`; return how many."""
    files = [task.file for task in table.scan().plan_files()][:most_files]
    if not files:
        return 0
    producer = table.transaction().update_snapshot().overwrite()
    for file in files:
        producer.delete_data_file(file)
        producer.append_data_file(copied(table, file))
    updates, requirements = producer._commit()
    cast("Callable[..., CommitTableResponse]", table.catalog.commit_table)(
        table, requirements, tuple(as_replace(update) for update in updates)
    )
    return len(files)


def copied(table: Table, file: DataFile) -> DataFile:
    location = file.file_path.replace(".parquet", "-rewritten.parquet")
    with table.io.new_input(file.file_path).open() as source:
        content = source.read()
    with table.io.new_output(location).create() as target:
        target.write(content)
    copy = DataFile.from_args(
        **{name: getattr(file, name) for name in FIELDS}, file_path=location, equality_ids=None
    )
    copy.spec_id = file.spec_id
    return copy


FIELDS = (
    "content",
    "file_format",
    "partition",
    "record_count",
    "file_size_in_bytes",
    "column_sizes",
    "value_counts",
    "null_value_counts",
    "nan_value_counts",
    "lower_bounds",
    "upper_bounds",
    "key_metadata",
    "split_offsets",
    "sort_order_id",
)


def as_replace(update: TableUpdate) -> TableUpdate:
    """Return an update that adds a snapshot with its operation `replace`, another as it is."""
    if not isinstance(update, AddSnapshotUpdate):
        return update
    snapshot = update.snapshot
    assert snapshot.summary is not None
    told = snapshot.summary.model_dump(by_alias=True)
    kept = {key: value for key, value in told.items() if key != "operation"}
    summary = Summary(Operation.REPLACE, **kept)
    return AddSnapshotUpdate(snapshot=snapshot.model_copy(update={"summary": summary}))


def remove_orphans(table: Table) -> int:
    """Delete every file in the table's folder that its metadata does not name."""
    found = dangling(table)
    for path in found:
        path.unlink()
    return len(found)


def roll_back(table: Table, snapshot: Snapshot) -> None:
    """Make an earlier snapshot the head again."""
    update = SetSnapshotRefUpdate.model_validate(
        {
            "ref-name": MAIN_BRANCH,
            "type": SnapshotRefType.BRANCH,
            "snapshot-id": snapshot.snapshot_id,
        }
    )
    table.catalog.commit_table(table, (), (update,))
