"""The committer against a table and dead letters that fail to order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

import pyarrow as pa
import pytest

from libs.lake.commits.commit import Kind, LakeFile, Overlap, Prepared
from libs.lake.commits.committer import Fenced, Landed
from libs.lake.commits.seam import OffsetRange, TopicPartition, advance
from libs.lake.ledger.coverage import Series
from libs.lake.ledger.ledger import EMPTY_LEDGER, Hole
from libs.market.clock import SystemClock
from libs.market.errors import UnavailableError
from libs.runtime.actor import ask
from libs.runtime.mailbox import Mailbox
from libs.wire.trades import Reason, Rejected
from services.writer.batching.buffer import Part
from services.writer.commits.committer import HeldError, TableCommitter
from services.writer.commits.storing import Written
from services.writer.messages import (
    Commit,
    DeclareHoles,
    FencedOff,
    Flushed,
    HeadLedger,
    ReadTable,
    RecordLost,
    StoredRow,
    TableState,
    ToCommitter,
    ToConsumer,
)
from tests.support.lake import made_up_file
from tests.support.polling import eventually

BTC = Series("BINANCE", "CRYPTO", "BTCUSDT", 0)
P3, P5 = ("trades", 3), ("trades", 5)


class FakeTable:
    """Says what was asked of it, in order; raises first what it is told to."""

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.failures: list[Exception] = []
        self.fenced: dict[TopicPartition, int] = {}
        self.commits: list[Prepared] = []
        self.overlaps = 0
        self.holds_all = False
        self.rewritten = Written()

    def state(self) -> TableState:
        return TableState({"trades": {3: 7}}, "kafka-1")

    def rows_at(self, offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, StoredRow]:
        return {position: {"kafka_offset": offset} for position, offset in offsets.items()}

    def write(self, batches: list[pa.RecordBatch], beside: Sequence[LakeFile]) -> Written:
        self.journal.append("write")
        offsets = [offset for batch in batches for offset in batch["kafka_offset"].to_pylist()]
        return Written((made_up_file(3, offsets[0], offsets[-1], topic="trades"),))

    def rewrite(self, file: LakeFile, beside: Sequence[LakeFile]) -> Written:
        self.journal.append("rewrite")
        return self.rewritten

    def ledger(self, snapshot_id: int | None) -> HeadLedger:
        return HeadLedger(snapshot_id or 7)

    def commit(self, prepared: Prepared) -> Landed | Fenced | Overlap:
        self.journal.append("commit")
        self.commits.append(prepared)
        if self.overlaps:
            self.overlaps -= 1
            return Overlap(prepared.files, EMPTY_LEDGER)
        if self.failures:
            raise self.failures.pop(0)
        if prepared.holes and not self.holds_all:
            return Landed(11, 0, {}, {}, {}, 1)
        valid = {p: r for p, r in prepared.ranges.items() if p not in self.fenced}
        if not valid:
            return Fenced(self.fenced)
        rows = sum(file.rows for file in prepared.files)
        return Landed(11, rows, valid, advance({}, valid), self.fenced, 1)


class FakeDeadLetters:
    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.failures: list[Exception] = []

    async def send(self, parts: tuple[Part, ...]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.journal.extend(f"letter {r.offset}" for part in parts for r in part.rejected)


class Bench:
    """A committer with its fakes, and the consumer's mailbox it tells."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.table = FakeTable(self.journal)
        self.letters = FakeDeadLetters(self.journal)
        self.to_consumer: Mailbox[ToConsumer] = Mailbox("consumer", 8)
        self.executor = ThreadPoolExecutor(1)
        self.committer = TableCommitter(
            self.table,
            self.letters,
            self.to_consumer,
            self.executor,
            SystemClock(),
            cluster_id="kafka-1",
        )

    async def commit(self, *parts: Part, commit_id: str = "one") -> Flushed:
        def message(done: asyncio.Future[Flushed]) -> ToCommitter:
            return Commit(commit_id, parts, done)

        return await ask(self.committer, message, timeout_s=60)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with running(made.committer):
        yield made
    made.executor.shutdown()


@asynccontextmanager
async def running(committer: TableCommitter) -> AsyncIterator[None]:
    task = asyncio.create_task(committer.run())
    try:
        yield
    finally:
        await committer.stop()
        await task


def part(
    partition: tuple[str, int] = P3, start: int = 0, end: int = 5, *rejected: int, rows: bool = True
) -> Part:
    batch = pa.record_batch({"kafka_offset": list(range(start, end))})
    letters = tuple(Rejected(offset, Reason.EMPTY, "no bytes", b"") for offset in rejected)
    return Part(partition, 1, start, end, [batch] if rows else [], letters)


async def test_dead_letters_are_in_kafka_before_the_commit(bench: Bench) -> None:
    """Nothing passes a record by that is nowhere yet."""
    assert await bench.commit(part(P3, 0, 5, 2)) == Flushed(11, 5)
    assert bench.journal == ["write", "letter 2", "commit"]


async def test_rows_in_a_file_are_not_held_in_memory_too(bench: Bench) -> None:
    """While the commit is tried, for as long as that takes."""
    written = part()
    await bench.commit(written)
    assert written.batches == []


async def test_without_dead_letters_nothing_is_committed(bench: Bench) -> None:
    """Kafka away for letters: tried again, and only then committed."""
    bench.letters.failures = [UnavailableError("no Kafka"), UnavailableError("no Kafka")]
    await bench.commit(part(P3, 0, 5, 2))
    assert bench.journal == ["write", "letter 2", "commit"]


async def test_a_part_of_rejects_alone_covers_its_range(bench: Bench) -> None:
    """No file, and yet the seam passes."""
    assert await bench.commit(part(P3, 5, 6, 5, rows=False)) == Flushed(11, 0)
    assert bench.journal == ["letter 5", "commit"]
    assert bench.table.commits[0].ranges == {TopicPartition(*P3): (5, 6)}


async def test_an_unknown_outcome_is_asked_again_with_the_same_commit(bench: Bench) -> None:
    """Same id, same files: the table says whether it landed."""
    bench.table.failures = [UnavailableError("no answer"), UnavailableError("no answer")]
    await bench.commit(part(), commit_id="kept")
    first, *others = bench.table.commits
    assert [c.commit_id for c in bench.table.commits] == ["kept"] * 3
    assert all(c.files == first.files for c in others)
    assert bench.journal.count("write") == 1
    assert bench.committer.view.stopped_because == ""


async def test_while_the_catalog_is_away_the_view_says_so(bench: Bench) -> None:
    """And counts the failures, for the governor."""
    bench.table.failures = [UnavailableError("the catalog is away")] * 4
    flushing = asyncio.create_task(bench.commit(part()))
    await eventually(lambda: bench.committer.view.failures >= 2)
    assert "cannot commit: the catalog is away" in bench.committer.view.stopped_because
    await flushing
    assert bench.committer.view.failures == 0


async def test_a_stopping_committer_gives_up_what_fails(bench: Bench) -> None:
    """Kafka still has it; waiting for the catalog would hold the stop."""
    bench.table.failures = [UnavailableError("the catalog is away")] * 1_000
    flushing = asyncio.create_task(bench.commit(part()))
    await eventually(lambda: bench.committer.view.failures >= 1)
    await bench.committer.stop()
    with pytest.raises(UnavailableError, match="stopped before it could commit"):
        await flushing


async def test_the_consumer_hears_of_fenced_parts_with_their_generation(bench: Bench) -> None:
    """The others landed."""
    bench.table.fenced = {TopicPartition(*P5): 90}
    await bench.commit(part(P3), part(P5, 7, 9, rows=False))
    assert await bench.to_consumer.get() == FencedOff({P5: 1})
    assert bench.committer.view.offsets == {P3: 5, P5: 90}


async def test_a_wholly_fenced_commit_adds_nothing(bench: Bench) -> None:
    """It is counted, told, and dropped."""
    bench.table.fenced = {TopicPartition(*P3): 9}
    assert await bench.commit(part(P3)) == Flushed()
    assert bench.to_consumer.depth == 1
    assert bench.committer.view.commits == 0


async def test_the_table_is_read_after_the_commits_before(bench: Bench) -> None:
    """A placing must see what was on its way."""
    committing = asyncio.create_task(bench.commit(part()))
    await asyncio.sleep(0)
    state = await ask(bench.committer, ReadTable, timeout_s=60)
    assert committing.done() or bench.journal[-1] == "commit"
    assert state.cluster_id == "kafka-1"
    await committing


async def test_a_full_mailbox_keeps_no_fence_from_the_consumer(bench: Bench) -> None:
    """It hears of it once it has taken another message: it would read on where it must not."""
    while bench.to_consumer.offer(FencedOff({})):
        continue
    bench.table.fenced = {TopicPartition(*P3): 9}
    committing = asyncio.create_task(bench.commit(part(P3)))
    await eventually(lambda: "commit" in bench.journal)
    assert not committing.done()
    heard = [await bench.to_consumer.get() for _ in range(bench.to_consumer.depth)]
    await committing
    assert FencedOff({P3: 1}) not in heard
    assert await bench.to_consumer.get() == FencedOff({P3: 1})


async def test_a_loss_is_counted_though_its_outcome_was_unknown(bench: Bench) -> None:
    """It landed unseen, its asker has left: the same commit is asked for until it is known."""
    bench.table.failures = [UnavailableError("no answer"), UnavailableError("no answer")]
    lost = {TopicPartition(*P3): OffsetRange(0, 40)}
    reply: asyncio.Future[Flushed] = asyncio.get_running_loop().create_future()
    reply.cancel()
    await bench.committer.tell(RecordLost(lost, reply))
    await eventually(lambda: bench.committer.view.lost == 40)
    assert len({commit.commit_id for commit in bench.table.commits}) == 1


async def test_a_commit_handled_again_is_counted_once(bench: Bench) -> None:
    """As after a failure of the committer: its rows and its dead letters."""
    for _ in range(2):
        await bench.commit(part(P3, 0, 5, 2), commit_id="again")
    view = bench.committer.view
    assert (view.dead_lettered, view.rows, view.commits) == (1, 5, 1)


async def test_dead_letters_of_a_fenced_part_are_not_counted(bench: Bench) -> None:
    """Whoever has the partition reads and counts them."""
    bench.table.fenced = {TopicPartition(*P5): 90}
    await bench.commit(part(P3, 0, 5, 2), part(P5, 7, 9, 8, rows=False))
    assert bench.committer.view.dead_lettered == 1


async def test_what_the_table_holds_by_now_is_written_anew(bench: Bench) -> None:
    """Under the same commit-id, with its contradictions among the dead letters first."""
    bench.table.overlaps = 1
    anew = made_up_file(3, 1, 1, topic="trades")
    conflict = Rejected(0, Reason.CONFLICT, "id 7 is held", b"raw", "BTCUSDT")
    bench.table.rewritten = Written((anew,), {BTC: 1}, (conflict,))
    assert await bench.commit(part(P3, 0, 2)) == Flushed(11, 1)
    assert bench.journal == ["write", "commit", "rewrite", "letter 0", "commit"]
    first, second = bench.table.commits
    assert first.commit_id == second.commit_id
    assert second.files == (anew,)
    account = second.accounts[TopicPartition(*P3)]
    assert account.duplicates == {BTC: 1}
    assert [(dead.start, dead.symbol, dead.reason) for dead in account.dead] == [
        (0, "BTCUSDT", "CONFLICT")
    ]
    assert (bench.committer.view.duplicates, bench.committer.view.dead_lettered) == (1, 1)


async def test_hole_at_the_venue_is_a_commit_of_its_own(bench: Bench) -> None:
    """What the table holds is no hole."""
    holes = {BTC: (Hole(5, 9, "halted", 1),)}
    flushed = await ask(bench.committer, partial(DeclareHoles, holes), timeout_s=60)
    assert flushed == Flushed(11)
    (sent,) = bench.table.commits
    assert (sent.kind, sent.holes, sent.files) == (Kind.VENUE, holes, ())
    bench.table.holds_all = True
    with pytest.raises(HeldError):
        await ask(bench.committer, partial(DeclareHoles, holes), timeout_s=60)


async def test_hole_that_cannot_be_written_is_refused(bench: Bench) -> None:
    """Whoever declared it hears why; the committer goes on."""
    holes = {BTC: (Hole(5, 9, "halted", 1),)}
    bench.table.failures = [OSError("no space left on device")]
    with pytest.raises(UnavailableError, match="no space left"):
        await ask(bench.committer, partial(DeclareHoles, holes), timeout_s=60)
    assert await ask(bench.committer, partial(DeclareHoles, holes), timeout_s=60) == Flushed(11)
