"""Putting records off: whatever the levels and policies, each record is stored or owed, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.degradation.level import Level
from libs.degradation.policy import SHED_AT, PriorityPolicy, parse_policy
from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.ledger import Account, Ledger, Shed, closed, entered
from libs.wire.rejection import Reason, Rejected
from services.writer.batching.buffer import Buffer, Chunk
from services.writer.batching.shedding import ShedRule, classes_in, only, split, with_symbols
from services.writer.messages import RawChunk

TOPIC = "market.crypto.trades.binance"
P3 = TopicPartition(TOPIC, 3)
SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "DOGEUSDT", "BTCTRY", "NEWUSDT"]
POLICIES = [
    parse_policy(f'name = "{name}"\n[exchanges.BINANCE]\n{classes}', where=name)
    for name, classes in (
        ("one", 'critical = ["BTCUSDT"]\nhigh = ["ETH*"]\nlow = ["*TRY", "DOGEUSDT"]'),
        ("two", 'critical = ["ETHUSDT", "DOGEUSDT"]\nlow = ["BTCUSDT", "SOL*"]'),
        ("all", "normal = []"),
    )
]
keys = st.lists(
    st.sampled_from([*(s.encode() for s in SYMBOLS), None, b"", b"\xff\xfe"]), max_size=30
)
levels = st.sampled_from(list(Level))
policies = st.sampled_from(POLICIES)


def chunk_of(start: int, found: list[bytes | None], hole: int = 0) -> RawChunk:
    """Build a chunk whose values are its own offsets, so that it shows what went where."""
    offsets = np.arange(start, start + len(found))
    return RawChunk(
        (TOPIC, 3),
        1,
        start,
        start + len(found) + hole,
        offsets,
        pa.array([str(n).encode() for n in offsets.tolist()], pa.binary()),
        (pa.array(found, pa.binary()),),
    )


def waits(key: bytes | None, policy: PriorityPolicy, level: Level) -> bool:
    """Say the rule again, a record at a time."""
    try:
        symbol = (key or b"").decode()
    except UnicodeDecodeError:
        return False
    return bool(symbol) and policy.priority_of("BINANCE", symbol) in SHED_AT[level]


@given(keys, levels, policies)
def test_what_is_put_off_is_counted_by_the_same_classes_when_it_is_read_again(
    found: list[bytes | None], level: Level, policy: PriorityPolicy
) -> None:
    """What a backfill finds of a range are as many records of each class as were put off."""
    chunk = chunk_of(100, found)
    parted = split(chunk, ShedRule(policy, level))
    owed = only(chunk, [symbol for shed in parted.shed for symbol in shed.symbols])
    assert classes_in(owed, policy) == parted.put_off


@given(keys, levels, policies, st.booleans())
def test_a_chunk_is_parted_by_key_as_record_by_record(
    found: list[bytes | None], level: Level, policy: PriorityPolicy, spared: bool
) -> None:
    """Values stay with their offsets; the range names the very symbols; spared topics go on."""
    rule = ShedRule(policy, level, frozenset({TOPIC} if spared else ()), 7)
    chunk = chunk_of(100, found, hole=2)
    parted = split(chunk, rule)
    put_off = {n for n, key in enumerate(found, 100) if waits(key, policy, level) and not spared}
    assert parted.kept.offsets.tolist() == sorted(set(range(100, 100 + len(found))) - put_off)
    assert parted.kept.values.to_pylist() == [b"%d" % n for n in parted.kept.offsets.tolist()]
    assert (parted.kept.start, parted.kept.following) == (100, 102 + len(found))
    assert sum(parted.put_off.values()) == len(put_off)
    if not put_off:
        assert parted.shed == ()
        return
    (shed,) = parted.shed
    assert (shed.start, shed.end, shed.at_us) == (100, 102 + len(found), 7)
    assert (shed.records, shed.policy) == (len(put_off), policy.version)
    assert shed.symbols == tuple(sorted({(found[n - 100] or b"").decode() for n in put_off}))
    assert set(shed.classes) == {priority.value for priority in SHED_AT[level]}
    assert set(only(chunk, shed.symbols).offsets.tolist()) == put_off


@given(keys.filter(bool), st.data())
def test_a_reject_says_its_symbol(found: list[bytes | None], data: st.DataObject) -> None:
    """By the key, whether others of its chunk were put off or not; no text is no symbol."""
    chunk = split(chunk_of(50, found), ShedRule(POLICIES[0], Level.AGGRESSIVE)).kept
    picked = data.draw(st.lists(st.sampled_from(chunk.offsets.tolist() or [0]), unique=True))
    if not len(chunk.offsets):
        picked = []
    rejected = tuple(Rejected(offset, Reason.EMPTY, "", b"") for offset in sorted(picked))
    named = with_symbols(rejected, chunk)
    assert [one.symbol for one in named] == [
        (found[n - 50] or b"").decode(errors="ignore") for n in sorted(picked)
    ]


@settings(max_examples=60)
@given(st.data())
def test_every_record_is_stored_or_owed_and_never_both(data: st.DataObject) -> None:
    """Over any sequence of levels, policies, commits and pieces of backfill."""
    log: dict[int, bytes | None] = {}
    stored: Counter[int] = Counter()
    buffer, ledger, end = Buffer(), Ledger(), 0
    for _ in range(data.draw(st.integers(1, 12))):
        found = data.draw(keys)
        chunk = chunk_of(end, found, hole=data.draw(st.sampled_from([0, 0, 3])) or not found)
        log.update(zip(chunk.offsets.tolist(), found, strict=True))
        end = chunk.following
        rule = ShedRule(data.draw(policies), data.draw(levels))
        parted = split(chunk, rule)
        batch = pa.record_batch({"offset": parted.kept.offsets})
        buffer.add(Chunk((TOPIC, 3), 1, chunk.start, end, batch, (), parted.shed), now_s=0)
        if data.draw(st.booleans()):
            ledger = commit(buffer, ledger, stored)
            prove(log, stored, ledger, end)
        if data.draw(st.booleans()):
            ledger = backfill(data, log, stored, ledger)
            prove(log, stored, ledger, end if not buffer else min(log, default=0))
    ledger = commit(buffer, ledger, stored)
    prove(log, stored, ledger, end)
    while ledger.book(P3).shed:
        ledger = backfill(data, log, stored, ledger)
    assert stored == dict.fromkeys(log, 1)


def commit(buffer: Buffer, ledger: Ledger, stored: Counter[int]) -> Ledger:
    """Take the buffer into the table and the ledger."""
    for part in buffer.take():
        for batch in part.batches:
            stored.update(batch["offset"].to_pylist())
        ledger = entered(ledger, {P3: Account(shed=part.shed)}, ())
    return ledger


def backfill(
    data: st.DataObject, log: dict[int, bytes | None], stored: Counter[int], ledger: Ledger
) -> Ledger:
    """Store a piece of an open range by its symbols alone, and close it."""
    ranges = ledger.book(P3).shed
    if not ranges:
        return ledger
    shed = data.draw(st.sampled_from(ranges))
    start = data.draw(st.integers(shed.start, shed.end - 1))
    end = data.draw(st.integers(start + 1, shed.end))
    offsets = [offset for offset in log if start <= offset < end]
    piece = RawChunk(
        (TOPIC, 3),
        -1,
        start,
        end,
        np.array(offsets, np.int64),
        pa.array([b""] * len(offsets), pa.binary()),
        (pa.array([log[offset] for offset in offsets], pa.binary()),),
    )
    stored.update(only(piece, shed.symbols).offsets.tolist())
    return closed(ledger, P3, start, end)


def prove(log: dict[int, bytes | None], stored: Counter[int], ledger: Ledger, below: int) -> None:
    """Hold each position below the seam to the invariant."""
    assert all(count == 1 for count in stored.values())
    for offset, key in log.items():
        if offset < below:
            owed = is_owed(offset, key, ledger.book(P3).shed)
            assert owed == (offset not in stored), offset


def is_owed(offset: int, key: bytes | None, ranges: Iterable[Shed]) -> bool:
    return any(
        shed.start <= offset < shed.end and (key or b"") in {s.encode() for s in shed.symbols}
        for shed in ranges
    )
