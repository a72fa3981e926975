"""Tail beyond its memory: the oldest chunks go to local files and are read through the page cache.

A file is unlinked as soon as it is mapped: its space is freed when the last state lets go of the
chunk, and a killed process leaves nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from services.query.tail.chunk import Chunk, sorted_chunk
from services.query.tail.tail import TIERS_ROWS, Tail


def spilled(tail: Tail, *, memory_bytes: int, folder: Path) -> Tail:
    """Move the oldest large chunks to files until the rest fits; the same tail where it does.

    Held ones go first, and those put aside: they may stay for long.
    """
    over = tail.bytes_in_memory - memory_bytes
    if over <= 0:
        return tail
    moved: dict[Chunk, Chunk] = {}
    for chunk in (*tail.held, *tail.aside, *tail.chunks):
        if over > 0 and not chunk.on_disk and chunk.rows >= TIERS_ROWS[-1]:
            moved[chunk] = on_disk(chunk, folder)
            over -= chunk.bytes
    held, aside, chunks = (
        tuple(moved.get(chunk, chunk) for chunk in chunks)
        for chunks in (tail.held, tail.aside, tail.chunks)
    )
    return replace(tail, held=held, aside=aside, chunks=chunks)


def on_disk(chunk: Chunk, folder: Path) -> Chunk:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{uuid4().hex}.arrow"
    try:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, chunk.batch.schema) as out:
            out.write_batch(chunk.batch)
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    finally:
        path.unlink(missing_ok=True)
    return sorted_chunk(chunk.topic, batch, claims=chunk.claims, on_disk=True)
