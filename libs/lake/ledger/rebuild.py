"""The ledger of a table that has none: its coverage read from the rows' own columns."""

from __future__ import annotations

from functools import reduce

import pyarrow as pa
from pyiceberg.table import Table

from libs.lake.commits.seam import LOST_KEY, ancestors, decode_ranges, summary_text
from libs.lake.ledger.claims import KEYS, claims_of
from libs.lake.ledger.coverage import EMPTY_COVERAGE, Coverage, union
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger, Lost, with_lost
from libs.market.errors import UnavailableError


def rebuilt_ledger(table: Table) -> Ledger:
    """Return what the head's rows and the kept snapshots tell; earlier dead letters are not there.

    Raises:
        UnavailableError: a file of the table cannot be read.
    """
    head = table.metadata.current_snapshot()
    ledger = Ledger(coverage=held_by(table))
    for snapshot in ancestors(table.metadata, head) if head else ():
        lost = decode_ranges(summary_text(snapshot, LOST_KEY) or "{}")
        for position, (start, end) in lost.items():
            ledger = with_lost(ledger, position, [Lost(start, end, snapshot.timestamp_ms * 1000)])
    return ledger if head else EMPTY_LEDGER


def held_by(table: Table) -> Coverage:
    """Return the ids of all rows of the head, a batch of columns at a time."""
    try:
        batches = table.scan(selected_fields=tuple(KEYS)).to_arrow_batch_reader()
        return reduce(union, map(batch_claims, batches), EMPTY_COVERAGE)
    except OSError as error:
        raise UnavailableError(f"a file of the table cannot be read: {error}") from error


def batch_claims(batch: pa.RecordBatch) -> Coverage:
    return claims_of(batch.select(KEYS))
