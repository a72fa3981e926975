"""Binance's combined stream: frames to columns. Pure: no clock, no I/O, no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from services.ingestor.parsing.columns import TradeColumns
from services.ingestor.parsing.symbols import SymbolTable
from services.ingestor.parsing.texts import Texts
from services.ingestor.parsing.usual import read_usual
from services.ingestor.parsing.validation import Misfit, misfits

Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

# A trade is about 170 bytes. Longer ones are not trades, and would not fit a Kafka record.
MAX_TRADE_BYTES = 8192
# Below it the fixed cost of reading all at once is more than that of one by one.
MANY_FRAMES = 400


class _Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    E: Int64
    s: str
    t: Int64
    p: str
    q: str
    T: Int64
    m: bool
    M: bool = True


class _Combined(msgspec.Struct, gc=False):
    data: _Trade


class _Event(msgspec.Struct):
    e: str | None = None


class _Problem(msgspec.Struct):
    code: int | None = None
    msg: str | None = None


class _Envelope(msgspec.Struct):
    """Whatever comes: an event of a stream, or the answer to a request."""

    stream: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    e: str | None = None
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    code: int | None = None
    msg: str | None = None
    error: _Problem | None = None


_decode_trade = msgspec.json.Decoder(_Combined).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True)
class Rejected:
    """A frame that is not a trade we can keep: for the dead-letter topic."""

    raw: bytes
    reason: str
    detail: str
    received_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the exchange says to a request; `error` is empty where it agrees."""

    id: int | str | None
    error: str


@dataclass(slots=True)
class Parsed:
    """What a burst of frames held. Trades keep the order they came in."""

    trades: TradeColumns
    rejected: list[Rejected] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    ignored: int = 0
    shutdown: bool = False


def parse(
    frames: Sequence[bytes], received_us: npt.NDArray[np.int64], table: SymbolTable
) -> Parsed:
    """Read a burst of combined-stream frames, each received at its `received_us`.

    Trades printed as Binance prints them are read all at once; others without a Python statement
    for any of them; a burst with anything else in it is sorted out frame by frame.
    """
    if len(frames) < MANY_FRAMES:
        return _decode(frames, received_us, table)
    texts = Texts.of(frames)
    if texts.longest_bytes <= MAX_TRADE_BYTES:
        usual = read_usual(texts, received_us, table)
        if usual is not None and not misfits(usual, ()):
            return Parsed(usual)
    return _decode(frames, received_us, table)


def _decode(
    frames: Sequence[bytes], received_us: npt.NDArray[np.int64], table: SymbolTable
) -> Parsed:
    try:
        if max(map(len, frames), default=0) > MAX_TRADE_BYTES:
            return _sort_out(frames, received_us, table)
        events = list(map(_decode_trade, frames))
    except msgspec.DecodeError:
        return _sort_out(frames, received_us, table)
    return _keep_fitting(events, frames, received_us, table)


def _sort_out(
    frames: Sequence[bytes], received_us: npt.NDArray[np.int64], table: SymbolTable
) -> Parsed:
    other = Parsed(trades=TradeColumns.empty())
    events: list[_Combined] = []
    rows: list[int] = []
    for row, frame in enumerate(frames):
        event = _sort(frame, int(received_us[row]), other)
        if event is not None:
            events.append(event)
            rows.append(row)
    found = _keep_fitting(events, [frames[row] for row in rows], received_us[rows], table)
    other.trades = found.trades
    other.rejected += found.rejected
    return other


def _sort(frame: bytes, received_us: int, other: Parsed) -> _Combined | None:
    """Return the frame's trade, or put what else it is into `other`."""
    problem = ""
    if len(frame) <= MAX_TRADE_BYTES:
        try:
            return _decode_trade(frame)
        except msgspec.DecodeError as error:
            problem = str(error)
    try:
        reason = _classify(_decode_envelope(frame), other)
    except msgspec.DecodeError as error:
        reason, problem = "MALFORMED", str(error)
    if reason == "FIELD" and not problem:
        reason, problem = "OVERSIZED", f"a trade of {len(frame)} bytes"
    if reason:
        other.rejected.append(Rejected(frame, reason, problem, received_us))
    return None


def _classify(envelope: _Envelope, other: Parsed) -> str:
    """Count what is known not to be a trade; return why the frame is a bad one otherwise."""
    event = envelope.e
    if envelope.data is not msgspec.UNSET:
        event = _decode_event(envelope.data).e
    elif event is None:
        return _classify_answer(envelope, other)
    if event == "serverShutdown":
        other.shutdown = True
    elif event == "trade" or envelope.stream.endswith("@trade"):
        return "FIELD"
    else:
        other.ignored += 1
    return ""


def _classify_answer(envelope: _Envelope, other: Parsed) -> str:
    refusal = envelope.error or _Problem(envelope.code, envelope.msg)
    problem = "" if refusal.code is None else f"{refusal.code} {refusal.msg or ''}".strip()
    if envelope.id is msgspec.UNSET:
        if not problem:
            return "MALFORMED"
        other.answers.append(Answer(None, problem))
    else:
        other.answers.append(Answer(envelope.id, problem))
    return ""


def _keep_fitting(
    events: Sequence[_Combined],
    frames: Sequence[bytes],
    received_us: npt.NDArray[np.int64],
    table: SymbolTable,
) -> Parsed:
    columns = _columns(events, received_us, table)
    bad = misfits(columns, [event.data.s for event in events])
    if not bad:
        return Parsed(columns)
    keep = np.ones(len(columns), np.bool_)
    keep[[misfit.row for misfit in bad]] = False
    return Parsed(columns.where(keep), [_reject(misfit, frames, received_us) for misfit in bad])


def _reject(
    misfit: Misfit, frames: Sequence[bytes], received_us: npt.NDArray[np.int64]
) -> Rejected:
    return Rejected(frames[misfit.row], misfit.reason, misfit.detail, int(received_us[misfit.row]))


def _columns(
    events: Sequence[_Combined], received_us: npt.NDArray[np.int64], table: SymbolTable
) -> TradeColumns:
    trades = [event.data for event in events]
    codes = table.codes
    return TradeColumns.build(
        codes=[codes.get(trade.s, -1) for trade in trades],
        ids=[trade.t for trade in trades],
        prices=[trade.p for trade in trades],
        quantities=[trade.q for trade in trades],
        times=[trade.T for trade in trades],
        event_times=[trade.E for trade in trades],
        sold=[trade.m for trade in trades],
        best_match=[trade.M for trade in trades],
        received_us=received_us,
    )
