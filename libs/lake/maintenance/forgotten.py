"""Notes of forgotten snapshots: which files may go once no query can hold them any more.

A snapshot leaves the metadata early, for the sake of the commits; its files must outlive every
query that began with it. So the commit that forgets it leaves a note first, beside the ledgers:
what the snapshot's lists were, and since when. A note whose commit did not land does no harm, for
what is still reachable is never deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import msgspec
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata

from libs.lake.commits.seam import LEDGER_KEY, summary_text
from libs.lake.ledger.store import content, put
from libs.lake.table.storage import Storage

PREFIX = "forgotten-"


class Gone(msgspec.Struct, frozen=True):
    """A snapshot that was forgotten, and where its lists are."""

    snapshot_id: int
    manifest_list: str
    ledger: str


class Note(msgspec.Struct, frozen=True):
    """Snapshots that left the metadata together, and metadata files that were replaced by then."""

    at_us: int
    snapshots: tuple[Gone, ...]
    metadata_files: tuple[str, ...]


def note_of(metadata: TableMetadata, snapshot_ids: Collection[int], *, now_us: int) -> Note:
    return Note(
        at_us=now_us,
        snapshots=tuple(
            Gone(kept.snapshot_id, kept.manifest_list, summary_text(kept, LEDGER_KEY))
            for kept in metadata.snapshots
            if kept.snapshot_id in snapshot_ids
        ),
        metadata_files=tuple(entry.metadata_file for entry in metadata.metadata_log),
    )


def leave_note(io: FileIO, folder: str, note: Note) -> str:
    """Write a note, on the disk when this returns; its name says when it was written.

    Raises:
        OSError: it cannot be written.
    """
    location = f"{folder}/{PREFIX}{note.at_us:020d}-{uuid.uuid4()}.json"
    return put(io, location, msgspec.json.encode(note))


def notes(storage: Storage, folder: str) -> list[tuple[int, str]]:
    """Return when each note was left and where it is, oldest first.

    Raises:
        OSError: the store does not answer.
    """
    found = []
    for file in storage.files_under(folder):
        name = file.location.rpartition("/")[2]
        written = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and written.isdecimal():
            found.append((int(written), f"{folder}/{name}"))
    return sorted(found)


def read_note(io: FileIO, location: str) -> Note | None:
    """Return a note; None where it is torn, for who left it has not committed yet, or never will.

    Raises: MissingLedgerError (it is gone), UnavailableError.
    """
    try:
        return msgspec.json.decode(content(io, location), type=Note)
    except msgspec.DecodeError:
        return None
