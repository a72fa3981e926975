"""Records as entries of a spool file: a length, a checksum, and msgpack. Pure.

An entry is read whole or not at all: what a crash cut off in its middle fails its checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import msgspec

from services.ingestor.delivering.records import Records

# A torn length would otherwise be believed; a burst is far smaller.
MOST_ENTRY_BYTES = 256 * 1024 * 1024
_HEAD = struct.Struct("<II")

# Symbol, first and last id.
IdRun = tuple[str, int, int]


class _Entry(msgspec.Struct, gc=False):
    topic: str
    partition: int
    records: int
    runs: list[IdRun]
    keys: list[bytes]
    values: list[bytes]
    headers: list[list[tuple[str, bytes]]]


class EntryFacts(msgspec.Struct, gc=False):
    """What is known of an entry without its records."""

    records: int
    runs: list[IdRun]


_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(_Entry).decode
_decode_facts = msgspec.msgpack.Decoder(EntryFacts).decode


@dataclass(frozen=True, slots=True)
class Torn:
    """From `at_byte` on nothing can be read, and why not."""

    at_byte: int
    because: str


def encode_entry(records: Records) -> bytes:
    payload = _encode(
        _Entry(
            topic=records.topic,
            partition=records.partition,
            records=len(records),
            runs=id_runs(records),
            keys=list(records.keys),
            values=list(records.values),
            headers=[list(said) for said in records.headers],
        )
    )
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def decode_entry(payload: bytes | memoryview) -> Records:
    entry = _decode_entry(payload)
    return Records(entry.topic, entry.partition, entry.keys, entry.values, entry.headers)


def facts_of(payload: bytes | memoryview) -> EntryFacts:
    return _decode_facts(payload)


def payloads(data: bytes) -> Iterator[memoryview | Torn]:
    """Yield each entry of a file, and at its end where and why the rest is unreadable."""
    view, at = memoryview(data), 0
    while at < len(data):
        found = _payload(view, at)
        yield found
        if isinstance(found, Torn):
            return
        at += _HEAD.size + len(found)


def id_runs(records: Records) -> list[IdRun]:
    """Name the trade ids among records, unbroken runs of a symbol at once."""
    runs: dict[bytes, list[tuple[int, int]]] = {}
    ids: Sequence[int] = records.ids.tolist() if records.ids is not None else ()
    for key, id_ in zip(records.keys, ids, strict=False):
        own = runs.setdefault(key, [])
        if own and id_ == own[-1][1] + 1:
            own[-1] = (own[-1][0], id_)
        else:
            own.append((id_, id_))
    return [(key.decode(), *run) for key, own in runs.items() for run in own]


def _payload(view: memoryview, at: int) -> memoryview | Torn:
    start = at + _HEAD.size
    if start > len(view):
        return Torn(at, f"{len(view) - at} bytes are no entry")
    size, checksum = _HEAD.unpack_from(view, at)
    if size > MOST_ENTRY_BYTES or start + size > len(view):
        return Torn(at, f"an entry of {size} bytes ends after {len(view) - start}")
    payload = view[start : start + size]
    if crc32(payload) != checksum:
        return Torn(at, f"the checksum of an entry of {size} bytes is wrong")
    return payload
