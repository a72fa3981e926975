"""After the harm: everything comes to rest, and what was promised is held against what is there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from k2.writer.v1 import writer_pb2
from k2.writer.v1.writer_pb2_grpc import WriterServiceStub

from libs.degradation.policy import Priority
from libs.market.errors import K2Error, UnavailableError
from libs.rpc.client import call, channel
from tools.chaos import exchange, promises
from tools.chaos.ground import Ground, priorities
from tools.chaos.promises import Deferred, Promise
from tools.chaos.reading import Certificates, certificates, read_back
from tools.chaos.sights import Sight
from tools.chaos.story import Kind
from tools.cli.session.proof import Proof, prove
from tools.simulator.truth import ExpectedTrades

DRAIN_TIMEOUT_S = 120.0
FLUSH_TIMEOUT_S = 30.0
STILL_S = 0.7


@dataclass(frozen=True, slots=True)
class Findings:
    """Both sides of the proof, and what the certificates say."""

    proof: Proof
    certificates: Certificates
    last: Sight

    def deferred(self) -> Mapping[Priority, Deferred]:
        """Sum up by class: what was put off, written since, stored and produced."""
        stored: Counter[Priority] = Counter()
        produced: Counter[Priority] = Counter()
        classes = priorities()
        for symbol, expected in self.proof.expected.items():
            produced[classes[symbol]] += expected.count
            stored[classes[symbol]] += self.proof.answered[symbol].from_iceberg
        return {
            p: Deferred(
                self.last.shed.get(p, 0), self.last.backfilled.get(p, 0), stored[p], produced[p]
            )
            for p in Priority
        }


async def come_to_rest(ground: Ground) -> int:
    """Stop the exchange, and wait until every record is in the table; return its trades.

    What does not come is told by the proof: this only waits.
    """
    ground.story.begins("stops the exchange, and waits until all is in the table")
    trades = await paused(ground)
    with suppress(UnavailableError):
        await ground.until(drained, DRAIN_TIMEOUT_S, "everything decoded and nothing put off")
    await flush(ground)
    return trades


def drained(sight: Sight) -> bool:
    """Say whether all that was sent is in the log and decoded, and nothing waits anywhere."""
    received = sight.received
    on_its_way = received.gaps_open + received.waiting + sight.behind + sight.written.open_records
    return sight.log_end > 0 and on_its_way == 0


async def paused(ground: Ground) -> int:
    """Have the session stand still, and return how many trades have passed."""
    await exchange.pause(ground.exchange)
    trades = -1
    while (now := (await exchange.state_of(ground.exchange)).trades) != trades:
        trades = now
        await asyncio.sleep(STILL_S)
    return trades


async def flush(ground: Ground) -> None:
    """Have every writer commit what it holds, until the table has all that the log has."""
    deadline_s = time.monotonic() + FLUSH_TIMEOUT_S
    while time.monotonic() < deadline_s:
        await flush_writers(ground)
        if ground.sight.tail_rows == 0:
            return


async def flush_writers(ground: Ground) -> None:
    """Have every writer commit what it holds, and wait until that is seen."""
    for door in ground.fleet.doors().values():
        if door.service == "writer":
            with suppress(K2Error):
                await flush_one(door.grpc or "")
    await asyncio.sleep(STILL_S)


async def flush_one(address: str) -> None:
    async with channel(address) as connection:
        stub = WriterServiceStub(connection)
        await call(stub.Flush, writer_pb2.FlushRequest(), timeout_s=FLUSH_TIMEOUT_S)


async def found(ground: Ground, trades: int) -> Findings:
    """Read both sides."""
    ground.story.begins("reads every trade back, and compares")
    session = await asyncio.to_thread(ground.session_until, trades)
    flood = await asyncio.to_thread(ground.produced)
    by_pages = await prove(session, ground.query)
    answered = {**by_pages.answered, **await read_back(ground.query, list(flood))}
    expected: dict[str, ExpectedTrades] = {**session, **flood}
    certified = await certificates(ground.query, expected)
    return Findings(Proof(expected, answered), certified, ground.sight)


def common(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Give what every scenario promises."""
    yield promises.nothing_owed(findings.last.written.open_records)
    yield promises.certified(findings.certificates.sentences, findings.certificates.lacking)
    yield promises.all_there(findings.proof)
    yield promises.never_wrong(ground.asker.judgement)


def tell(ground: Ground, promise: Promise) -> Promise:
    """Write a promise down as it was judged."""
    ground.story.note(
        Kind.PROMISE,
        f"{promise.says}: {promise.seen}",
        says=promise.says,
        held=promise.held,
        seen=promise.seen,
    )
    return promise
