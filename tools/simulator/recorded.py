"""A recorded session: gzip lines `<recv_unix_ns> <raw combined-stream message>`, as they are."""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from libs.market.errors import CorruptError, NotFoundError
from tools.simulator.chunk import Chunk, Form, Line, TimeUnit, TradeColumns
from tools.simulator.instruments import Instrument, known

_CHUNK_LINES = 4_096
_WRAPPER = re.compile(rb'\{"stream":"([^"]+)","data":')
_STAMP = re.compile(rb'("[ET]":)(\d+)')
# Stamps of 1973 in microseconds and of 5138 in milliseconds.
_FIRST_MICROSECOND = 10**14


class _Trade(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    trade_id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    time: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class _Message(msgspec.Struct):
    data: _Trade


_DECODER = msgspec.json.Decoder(_Message)


class RecordedSession:
    """The stream messages of recordings; other lines (a REST snapshot) are passed over."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        names, first, last, self.time_unit = _survey(paths)
        self.streams = tuple(sorted(names))
        self.symbols = tuple(sorted({name.split("@")[0].upper() for name in names}))
        self.instruments: tuple[Instrument, ...] = tuple(known(s) for s in self.symbols)
        self.span_ns = first, last

    def __iter__(self) -> Iterator[Line]:
        return (line for _, line in _messages(self.paths))

    def chunks(self) -> Iterator[Chunk]:
        """Read the recordings from their start."""
        stream_of = {name.encode(): i for i, name in enumerate(self.streams)}
        symbol_of = {symbol: i for i, symbol in enumerate(self.symbols)}
        messages = _messages(self.paths)
        while rows := list(islice(messages, _CHUNK_LINES)):
            yield self._chunk(rows, stream_of, symbol_of)

    def _chunk(
        self,
        rows: Sequence[tuple[bytes, Line]],
        stream_of: dict[bytes, int],
        symbol_of: dict[str, int],
    ) -> Chunk:
        texts = [line[1] for _, line in rows]
        return Chunk(
            np.array([line[0] for _, line in rows], dtype=np.int64),
            np.array([stream_of[name] for name, _ in rows], dtype=np.int64),
            _trades(rows, symbol_of),
            lambda form: _rendered(texts, self.time_unit, form),
        )


def read_lines(path: Path) -> Iterator[Line]:
    """Yield a recording's lines. A last line that a crash cut off is passed over.

    Raises:
        NotFoundError: the file is not there.
        CorruptError: it is not gzip, or a line is not `<recv_unix_ns> <message>`.
    """
    for number, line in enumerate(_whole_lines(path), 1):
        stamp, _, message = line.partition(b" ")
        if not stamp.isdigit():
            raise CorruptError(
                f"{path} line {number} does not begin with a receive time", path=path
            )
        yield int(stamp), message


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no recording {path}", path=path) from error
    except gzip.BadGzipFile as error:
        raise CorruptError(f"{path} is no gzip file", path=path) from error
    except (EOFError, zlib.error):
        # A recorder that was killed leaves its last member unfinished.
        return


def _messages(paths: Sequence[Path]) -> Iterator[tuple[bytes, Line]]:
    """Yield (stream name, line) of every stream message, by receive time."""
    for line in heapq.merge(*map(read_lines, paths), key=itemgetter(0)):
        wrapper = _WRAPPER.match(line[1])
        if wrapper is not None:
            yield wrapper[1], line


def _survey(paths: Sequence[Path]) -> tuple[set[str], int, int, TimeUnit]:
    names: set[bytes] = set()
    first = last = 0
    time_unit: TimeUnit = "ms"
    for name, (received_ns, message) in _messages(paths):
        if name not in names:
            names.add(name)
            time_unit = _time_unit(message) or time_unit
        first, last = first or received_ns, received_ns
    if not names:
        raise CorruptError(f"no stream message in {', '.join(map(str, paths))}", paths=paths)
    return {name.decode() for name in names}, first, last, time_unit


def _time_unit(message: bytes) -> TimeUnit | None:
    stamp = _STAMP.search(message)
    if stamp is None:
        return None
    return "us" if int(stamp[2]) >= _FIRST_MICROSECOND else "ms"


def _trades(rows: Sequence[tuple[bytes, Line]], symbol_of: dict[str, int]) -> TradeColumns:
    at = [i for i, (name, _) in enumerate(rows) if name.endswith(b"@trade")]
    trades = [_DECODER.decode(rows[i][1][1]).data for i in at]
    return TradeColumns(
        np.array(at, dtype=np.int64),
        np.array([symbol_of[t.symbol] for t in trades], dtype=np.int64),
        np.array([t.trade_id for t in trades], dtype=np.int64),
        np.array([microseconds(t.time) for t in trades], dtype=np.int64),
        pa.array([t.price for t in trades], pa.string()),
        pa.array([t.quantity for t in trades], pa.string()),
        np.array([t.is_buyer_maker for t in trades], dtype=np.bool_),
    )


def microseconds(stamp: int) -> int:
    """Return a stamp that is in milliseconds or microseconds, by its size, in microseconds."""
    return stamp if stamp >= _FIRST_MICROSECOND else stamp * 1_000


def _rendered(texts: Sequence[bytes], recorded_in: TimeUnit, form: Form) -> pa.BinaryArray:
    messages = list(texts)
    if form.time_unit != recorded_in:
        change = _to_us if form.time_unit == "us" else _to_ms
        messages = [_STAMP.sub(change, text) for text in messages]
    if not form.combined:
        messages = [_WRAPPER.sub(b"", text, count=1)[:-1] for text in messages]
    return pa.array(messages, pa.binary())


def _to_us(stamp: re.Match[bytes]) -> bytes:
    return stamp[1] + stamp[2] + b"000"


def _to_ms(stamp: re.Match[bytes]) -> bytes:
    return stamp[1] + stamp[2][:-3]
