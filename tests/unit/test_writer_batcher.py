"""The batcher: one commit under way, the next buffer filling, and then it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from libs.degradation.level import Level
from libs.degradation.obedience import Applied
from libs.degradation.policy import load_policy
from libs.market.clock import SystemClock
from libs.market.errors import CorruptError, UnavailableError
from libs.runtime.actor import MailboxActor, answer
from libs.runtime.mailbox import Mailbox
from libs.wire.registry import SchemaRegistry
from libs.wire.trades import TradeDecoder, encode_trade, register_trades
from services.writer.batching.batcher import Batcher, Decoded
from services.writer.batching.buffer import FlushRule
from services.writer.batching.shedding import ShedRule
from services.writer.intake.bursts import BurstRule, Bursts
from services.writer.messages import (
    Accept,
    Commit,
    Fetched,
    Flush,
    Flushed,
    Held,
    RawChunk,
    Released,
    Tick,
    ToCommitter,
    ToConsumer,
)
from tests.support.polling import eventually
from tests.support.wire import a_trade

P3 = ("trades", 3)
BURST = 10
UNREADABLE = b"\x00" + (999_999).to_bytes(4, "big") + b"\x00abc"


class HeldCommitter(MailboxActor[ToCommitter]):
    """Keeps commits until the test lets them land."""

    def __init__(self) -> None:
        super().__init__("committer")
        self.commits: list[Commit] = []

    async def handle(self, message: ToCommitter) -> None:
        assert isinstance(message, Commit)
        self.commits.append(message)

    def land(self, number: int = -1) -> None:
        rows = sum(part.rows for part in self.commits[number].parts)
        answer(self.commits[number].done, Flushed(number + 100, rows))


class TornMailbox(Mailbox[ToConsumer]):
    """Fails the first message, as where the process is torn between two steps."""

    def __init__(self) -> None:
        super().__init__("consumer", 8)
        self.torn = False

    async def put(self, message: ToConsumer) -> None:
        if not self.torn:
            self.torn = True
            raise UnavailableError("torn")
        await super().put(message)


class Bench:
    def __init__(
        self, folder: Path, rule: FlushRule, consumer: Mailbox[ToConsumer] | None = None
    ) -> None:
        schemas = folder / "schemas.json"
        self.value = encode_trade(a_trade(), register_trades(SchemaRegistry(schemas), "trades"))
        self.committer = HeldCommitter()
        self.consumer: Mailbox[ToConsumer] = consumer or Mailbox("consumer", 8)
        self.executor = ThreadPoolExecutor(1)
        decoder = TradeDecoder(SchemaRegistry(schemas))
        policy = load_policy("crypto")
        self.levels = Applied()
        self.batcher = Batcher(
            self.committer,
            decoder,
            self.executor,
            rule,
            SystemClock(),
            lambda: self.levels,
            lambda levels: ShedRule(policy, levels.lag_level),
            Bursts(BurstRule(records=BURST)),
            self.consumer,
        )
        self.tasks = [
            asyncio.create_task(self.committer.run()),
            asyncio.create_task(self.batcher.run()),
        ]

    async def fetched(
        self, start: int, end: int, *, generation: int = 1, value: bytes | None = None
    ) -> None:
        values = pa.array([value or self.value] * (end - start), pa.binary())
        chunk = RawChunk(P3, generation, start, end, np.arange(start, end), values)
        await self.batcher.tell(Fetched((chunk,)))

    async def flush(self) -> asyncio.Future[Flushed]:
        reply: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
        await self.batcher.tell(Flush(reply))
        return reply


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a batcher that flushes when asked alone."""
    async for bench in lived(Bench(tmp_path, FlushRule(1 << 30, 1e9))):
        yield bench


@pytest.fixture
async def eager(tmp_path: Path) -> AsyncIterator[Bench]:
    """Give a batcher whose buffer is full with any record."""
    async for bench in lived(Bench(tmp_path, FlushRule(1, 1e9))):
        yield bench


async def lived(bench: Bench) -> AsyncIterator[Bench]:
    yield bench
    landing = asyncio.create_task(land_all(bench))
    await bench.batcher.stop()
    await bench.tasks[1]
    await bench.committer.stop()
    await bench.tasks[0]
    landing.cancel()
    bench.executor.shutdown()


async def land_all(bench: Bench) -> None:
    while True:
        for number in range(len(bench.committer.commits)):
            bench.committer.land(number)
        await asyncio.sleep(0.01)


async def test_a_flush_is_answered_when_the_commit_has_landed(patient: Bench) -> None:
    """With its snapshot and rows."""
    await patient.fetched(0, 3)
    reply = await patient.flush()
    await eventually(lambda: patient.committer.commits)
    assert not reply.done()
    patient.committer.land()
    assert await reply == Flushed(99, 3)


async def test_a_flush_of_nothing_is_answered_at_once(patient: Bench) -> None:
    """No commit is made for it."""
    assert await (await patient.flush()) == Flushed()
    assert not patient.committer.commits


async def test_a_flush_waits_for_the_commit_under_way(patient: Bench) -> None:
    """What was fetched before is in the table when it answers."""
    await patient.fetched(0, 3)
    await patient.flush()
    await eventually(lambda: patient.committer.commits)
    second = await patient.flush()
    await asyncio.sleep(0)
    assert not second.done()
    patient.committer.land()
    assert (await second).rows == 3


async def test_a_full_buffer_holds_while_a_commit_is_under_way(eager: Bench) -> None:
    """One commit in hand, one buffer full: the mailbox fills, and memory is bounded."""
    await eager.fetched(0, 3)
    await eventually(lambda: eager.committer.commits)
    await eager.fetched(3, 6)
    await eventually(lambda: eager.batcher.buffered_rows == 3)
    while eager.batcher.mailbox.offer(Tick()):
        pass
    assert len(eager.committer.commits) == 1
    eager.committer.land(0)
    await eventually(lambda: len(eager.committer.commits) == 2)


async def test_commits_have_ids_of_their_own(eager: Bench) -> None:
    """One a buffer."""
    await eager.fetched(0, 3)
    await eventually(lambda: eager.committer.commits)
    eager.committer.land(0)
    await eager.fetched(3, 6)
    await eventually(lambda: len(eager.committer.commits) == 2)
    first, second = eager.committer.commits
    assert first.commit_id != second.commit_id
    assert second.parts[0].start == 3


async def test_decoded_positions_are_shown_by_placing(patient: Bench) -> None:
    """The gauge of lag goes by what is decoded, not by what is committed."""
    await patient.fetched(0, 3)
    await patient.fetched(0, 2, generation=2)
    await eventually(lambda: patient.batcher.decoded.get(P3) == Decoded(2, 2))
    assert patient.batcher.buffered_rows == 2


@pytest.mark.parametrize(
    ("levels", "enriched"),
    [
        (Applied(), True),
        (Applied(lag_level=Level.SOFT), False),
        (Applied(memory_level=Level.SOFT), False),
    ],
)
async def test_soft_skips_enrichment(patient: Bench, levels: Applied, enriched: bool) -> None:
    """Notional stays null, and the query derives it; no message has to say so first."""
    patient.levels = levels
    await patient.fetched(0, 1)
    await patient.flush()
    await eventually(lambda: patient.committer.commits)
    (part,) = patient.committer.commits[0].parts
    assert (part.batches[0]["notional"][0].as_py() is not None) is enriched


async def test_what_was_in_hand_at_a_failure_is_decoded_after_the_restart(tmp_path: Path) -> None:
    """Nothing may follow that would show it missing: it would wait for the next record."""
    bench = Bench(tmp_path, FlushRule(1 << 30, 1e9))
    registry = tmp_path / "schemas.json"
    whole = registry.read_bytes()
    registry.write_bytes(b"half of it")
    await bench.fetched(0, 3)
    with pytest.raises(CorruptError):
        await bench.tasks[1]
    registry.write_bytes(whole)
    bench.tasks[1] = asyncio.create_task(bench.batcher.run())
    async for _ in lived(bench):
        await eventually(lambda: bench.batcher.buffered_rows == 3)
    assert [(part.start, part.rows) for part in bench.committer.commits[0].parts] == [(0, 3)]


async def test_a_burst_is_left_out_and_told(patient: Bench) -> None:
    """From its first batch on: what came before is committed, what was fetched after ignored."""
    await patient.fetched(0, 3)
    for start in (3, 7, 11):
        await patient.fetched(start, start + 4, value=UNREADABLE)
    await patient.fetched(15, 19)
    reply = await patient.flush()
    await eventually(lambda: patient.committer.commits)
    patient.committer.land()
    await reply
    (part,) = patient.committer.commits[0].parts
    assert (part.start, part.following, part.rejected) == (0, 3, ())
    assert patient.batcher.decoded[P3] == Decoded(1, 3)
    held = await patient.consumer.get()
    assert isinstance(held, Held)
    assert (held.hold.partition, held.hold.start) == (P3, 3)
    assert "UNKNOWN_SCHEMA: schema id 999999" in held.hold.why


async def test_a_failure_before_a_hold_was_told_loses_no_hold(tmp_path: Path) -> None:
    """What was in hand is judged anew after the restart: else the partition would stay ignored."""
    bench = Bench(tmp_path, FlushRule(1 << 30, 1e9), TornMailbox())
    for start in (0, 6):
        await bench.fetched(start, start + 6, value=UNREADABLE)
    with pytest.raises(UnavailableError, match="torn"):
        await bench.tasks[1]
    bench.tasks[1] = asyncio.create_task(bench.batcher.run())
    async for _ in lived(bench):
        held = await bench.consumer.get()
    assert isinstance(held, Held)
    assert held.hold.start == 0


async def test_a_burst_may_begin_with_the_log(patient: Bench) -> None:
    """Offset 0 is where to go back to, and a probe from there on releases the partition."""
    for start in (0, 4, 8):
        await patient.fetched(start, start + 4, value=UNREADABLE)
    await patient.fetched(0, 4)
    told = [await patient.consumer.get() for _ in range(2)]
    assert isinstance(told[0], Held)
    assert told[0].hold.start == 0
    assert told[1] == Released(P3, 1)


async def test_a_held_partition_goes_on_with_a_batch_that_reads(patient: Bench) -> None:
    """The consumer is told, and nothing lies between what was gathered and what comes."""
    await patient.fetched(0, 3)
    for start in (3, 3, 3):
        await patient.fetched(start, start + BURST, value=UNREADABLE)
    await patient.fetched(3, 5)
    await eventually(lambda: patient.batcher.decoded.get(P3) == Decoded(1, 5))
    told = [await patient.consumer.get() for _ in range(4)]
    assert [type(message) for message in told] == [Held, Held, Held, Released]
    await patient.flush()
    await eventually(lambda: patient.committer.commits)
    (part,) = patient.committer.commits[0].parts
    assert (part.start, part.following, part.rows) == (0, 5, 5)


async def test_what_is_accepted_is_dead_lettered(patient: Bench) -> None:
    """As poison is, up to where the log ended."""
    await patient.fetched(0, BURST, value=UNREADABLE)
    await patient.batcher.tell(Accept(P3, 1, BURST))
    await patient.fetched(0, BURST, value=UNREADABLE)
    await patient.flush()
    await eventually(lambda: patient.committer.commits)
    (part,) = patient.committer.commits[0].parts
    assert len(part.rejected) == BURST
    told = [await patient.consumer.get() for _ in range(2)]
    assert [type(message) for message in told] == [Held, Released]


async def test_a_stopped_batcher_commits_what_it_holds(tmp_path: Path) -> None:
    """Drain, flush, and wait for the commit."""
    bench = Bench(tmp_path, FlushRule(1 << 30, 1e9))
    await bench.fetched(0, 3)
    async for _ in lived(bench):
        pass
    assert [part.rows for part in bench.committer.commits[0].parts] == [3]
