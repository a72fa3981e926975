"""What governors record on Kafka, what can be asked of it, and what an operator sets there."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.level import Level
from libs.market.errors import InvalidError, K2Error, NotFoundError
from libs.rpc.client import call, channel
from services.governor.record import topic as record_topic
from services.governor.record.records import Kind, Record
from services.governor.record.topic import Topic, TopicReader, TopicWriter
from tests.support.governor import (
    STEADY,
    attached,
    clear_override,
    governor,
    produce,
    set_override,
    shows,
    state_at,
)
from tests.support.governors import governors, leads
from tests.support.polling import eventually
from tests.support.processes import Process

PATIENT = STEADY | {"K2_GOVERNOR_COOLDOWN_S": "120"}


async def test_override_is_obeyed_recorded_and_survives_its_governor(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """It lowers, it is told to the process with its reason, and ends when it is cleared."""
    with governor(kafka, topic, tmp_path, PATIENT) as (process, address):
        await leads(address)
        async with attached(address, topic) as writer:
            await produce(producer, topic, 250)
            await writer.at(Level.GRACEFUL)
            await eventually(lambda: applied_measured(process), what="k2_governor_applied_seconds")
            await set_override(address, pb.LEVEL_SOFT, "catalog upgrade")
            await writer.at(Level.SOFT)
            process.kill()
            process.restart()
            await leads(address)
            state = await shows(address, Level.SOFT)
            assert state.directive.override == state.override.reason == "catalog upgrade"
            assert "it would be GRACEFUL" in state.directive.explanation
            assert writer.agent.level is Level.SOFT

            assert (await clear_override(address)).override.reason == "catalog upgrade"
            await writer.at(Level.GRACEFUL)
            kinds = [record.kind for record in await records(address)]
            assert kinds.count(pb.RECORD_KIND_OVERRIDE) == 2
            assert kinds.count(pb.RECORD_KIND_CLAIM) == 2


async def test_record_explains_a_time_and_any_governor_answers(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """The standby too; but it sets nothing, and names the leader."""
    with governors(kafka, topic, tmp_path, PATIENT) as pair:
        await pair.first.serving()
        await pair.second.serving()
        leader, standby = await split(pair.addresses)
        await produce(producer, topic, 150)
        level_since = (await shows(leader, Level.SOFT)).level_since
        for address in pair.addresses:
            now = await eventually(lambda at=address: explained(at, Level.SOFT, 150))  # type: ignore[misc]
            assert "is 150 records behind" in now.explanation
            assert now.sample.leader.address == leader
            assert [change.level for change in now.changes] == [pb.LEVEL_SOFT]
            before = await explanation(address, pb.ExplainRequest(time=level_since))
            assert before.sample.level == pb.LEVEL_NORMAL
        with pytest.raises(K2Error) as refused:
            await set_override(standby, pb.LEVEL_SOFT, "why")
        assert refused.value.facts["leader"] == leader
        assert (await state_at(standby)).leader.address == leader


async def test_records_come_in_pages_and_within_bounds(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """All of them once, in order; a time of nothing is not found, one too long is refused."""
    with governor(kafka, topic, tmp_path) as (_, address):
        await leads(address)
        await eventually(lambda: enough(address), what="a few samples")
        paged = await pages(address, size=2)
        offsets = [record.offset for record in paged]
        assert offsets == sorted(set(offsets))
        kinds = [record.kind for record in paged]
        assert kinds[0] == pb.RECORD_KIND_CLAIM
        assert {pb.RECORD_KIND_DIRECTIVE, pb.RECORD_KIND_SAMPLE} <= set(kinds)
        long_ago = pb.ExplainRequest()
        long_ago.time.FromJsonString("2001-01-01T00:00:00Z")
        with pytest.raises(NotFoundError):
            await explanation(address, long_ago)
        with pytest.raises(InvalidError):
            await listed(address, pb.ListRecordsRequest(from_time=long_ago.time))


async def test_newest_snapshot_is_found_behind_many_claims(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from ever further back, and no further than need be."""
    monkeypatch.setattr(record_topic, "RECENT_OFFSETS", 2)
    place = Topic(kafka, f"{topic}.directives")
    reader = await TopicReader.open(place)
    writer = await TopicWriter.open(place, timeout_s=60)
    samples: list[Kind] = ["sample"] * 12
    claims: list[Kind] = ["claim"] * 5
    for kind in samples + claims:
        record = Record(kind=kind, process="governor-1", address="host:1", epoch=1)
        await writer.write(record, timeout_s=60)
    found = [placed.record.kind for placed in await reader.recent()]
    assert found == (samples + claims)[-len(found) :]
    assert len(claims) < len(found) < len(samples + claims)
    await writer.close()
    await reader.close()


async def explanation(address: str, request: pb.ExplainRequest) -> pb.ExplainResponse:
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        return await call(stub.Explain, request)


async def explained(address: str, level: Level, lag: int) -> pb.ExplainResponse | None:
    """Ask until the level and all that was produced is recorded."""
    found = await explanation(address, pb.ExplainRequest())
    so = (found.sample.level, found.sample.groups[0].lag) == (level + 1, lag)
    return found if so else None


async def listed(address: str, request: pb.ListRecordsRequest) -> pb.ListRecordsResponse:
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        return await call(stub.ListRecords, request)


async def records(address: str) -> list[pb.Record]:
    return list((await listed(address, pb.ListRecordsRequest(page_size=1_000))).records)


async def enough(address: str) -> bool:
    return len(await records(address)) > 4


async def pages(address: str, *, size: int) -> list[pb.Record]:
    found: list[pb.Record] = []
    request = pb.ListRecordsRequest(page_size=size)
    while True:
        page = await listed(address, request)
        assert len(page.records) <= size
        found += page.records
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def split(addresses: tuple[str, str]) -> tuple[str, str]:
    """Return the leader's address, and the standby's."""

    async def so() -> tuple[str, str] | None:
        first, second = [(await state_at(address)).leading for address in addresses]
        return (addresses if first else addresses[::-1]) if first != second else None

    leader, standby = await eventually(so, what="one leads")
    return leader, standby


async def applied_measured(process: Process) -> bool:
    """Whether the time from a threshold crossed to its acknowledgement was seen."""
    door = await process.door()
    page = urllib.request.urlopen(f"http://{door.metrics}/metrics").read().decode()  # noqa: ASYNC210
    counts = re.search(r"^k2_governor_applied_seconds_count (\S+)$", page, re.MULTILINE)
    return counts is not None and float(counts[1]) > 0
