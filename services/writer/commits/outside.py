"""What the committer needs of the world: the lake, and a place for dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from libs.lake.commits.commit import LakeFile, Overlap, Prepared
from libs.lake.commits.committer import Fenced, Landed
from libs.lake.commits.seam import TopicPartition
from services.writer.batching.buffer import Part
from services.writer.commits.storing import Written
from services.writer.messages import HeadLedger, StoredRow, TableState


class Table(Protocol):
    """The table of trades. Blocking."""

    def state(self) -> TableState:
        """Raises UnavailableError, MissingSeamError."""
        ...

    def rows_at(self, offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, StoredRow]:
        """Return those that are stored. Raises UnavailableError."""
        ...

    def write(self, batches: list[pa.RecordBatch], beside: Sequence[LakeFile]) -> Written:
        """Write the rows that neither the table nor the files beside hold.

        Raises OSError, UnavailableError, MissingLedgerError.
        """
        ...

    def rewrite(self, file: LakeFile, beside: Sequence[LakeFile]) -> Written:
        """Write a file's rows anew without those that the table holds by now.

        Raises OSError, UnavailableError, MissingLedgerError.
        """
        ...

    def commit(self, prepared: Prepared) -> Landed | Fenced | Overlap:
        """Raises UnavailableError, ConflictError where another try makes sense."""
        ...

    def ledger(self, snapshot_id: int | None) -> HeadLedger:
        """Return the ledger of the head, or of the snapshot named.

        Raises UnavailableError, MissingLedgerError, NotFoundError.
        """
        ...


class DeadLetters(Protocol):
    """Where records go that are no trades."""

    async def send(self, parts: tuple[Part, ...]) -> None:
        """Raises UnavailableError."""
        ...
