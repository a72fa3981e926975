"""The real governor on real Kafka lag: measured, pushed, obeyed, undone, survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from aiokafka import AIOKafkaProducer
from grpc_health.v1 import health_pb2_grpc
from k2.governor.v1 import governor_pb2 as pb
from k2.governor.v1 import governor_pb2_grpc

from libs.degradation.level import Level
from libs.market.errors import K2Error
from libs.rpc.client import call, channel, stream
from libs.rpc.errors import from_rpc_error
from tests.support.governor import (
    STEADY,
    attached,
    commit_everything,
    governor,
    lags,
    produce,
    shows,
    state_at,
)
from tests.support.polling import PATIENCE_S, eventually
from tests.support.processes import health_of


async def test_lag_raises_the_level_and_decoding_brings_it_back(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Through all five levels up, pushed and acknowledged, and one by one down."""
    with governor(kafka, topic, tmp_path, STEADY) as (process, address):
        await process.serving(service="k2.governor.v1.GovernorService")
        async with attached(address, topic) as writer:
            await produce(producer, topic, 450)
            await writer.at(Level.CIRCUIT_BREAK)
            state = await lags(address, 450)
            assert state.directive.level == pb.LEVEL_CIRCUIT_BREAK
            assert "because of lag" in state.directive.explanation
            await eventually(lambda: _acknowledged(address))

            await commit_everything(kafka, topic, 450)
            await writer.at(Level.NORMAL, 30)
            levels = [heard.level for heard in writer.heard if heard.authority == "governor"]
            way_down = levels[levels.index(Level.CIRCUIT_BREAK) :]
            assert sorted(set(way_down), reverse=True) == list(reversed(Level))
            assert way_down == sorted(way_down, reverse=True)


async def test_dead_writer_still_shows(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Lag comes from Kafka: nobody needs to be attached."""
    await produce(producer, topic, 1_000)
    await commit_everything(kafka, topic, 1_000)
    with governor(kafka, topic, tmp_path) as (process, address):
        await process.serving()
        assert (await state_at(address)).groups[0].lag == 0
        await produce(producer, topic, 250)
        await shows(address, Level.GRACEFUL)
        assert not (await lags(address, 250)).processes


async def test_memory_of_one_process_is_shown_and_directed_to_it_alone(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """The level shown is the maximum; the other process goes on as before."""
    with governor(kafka, topic, tmp_path) as (process, address):
        await process.serving()
        async with (
            attached(address, topic, "writer-1") as full,
            attached(address, topic, "writer-2") as fine,
        ):
            await eventually(lambda: full.agent.connected and fine.agent.connected)
            full.used_bytes = 920
            state = await shows(address, Level.AGGRESSIVE)
            assert "writer-1" in state.directive.explanation
            assert full.agent.level is Level.AGGRESSIVE
            assert fine.agent.level is Level.NORMAL
        gone = await shows(address, Level.NORMAL)
        await eventually(lambda: _nobody(address))
        assert gone.directive.memory_level == Level.NORMAL + 1


async def test_restarted_governor_keeps_the_highest_applied_level(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """SIGKILL at CIRCUIT_BREAK: the process holds it, the successor starts from it, newer."""
    slow = {"K2_GOVERNOR_COOLDOWN_S": "300", "K2_GOVERNOR_TTL_S": "300"}
    with governor(kafka, topic, tmp_path, slow) as (process, address):
        await process.serving()
        async with attached(address, topic) as writer:
            await produce(producer, topic, 450)
            await writer.at(Level.CIRCUIT_BREAK)
            epoch = (await state_at(address)).directive.epoch

            process.kill()
            await commit_everything(kafka, topic, 450)
            process.restart()
            await process.serving()

            state = await shows(address, Level.CIRCUIT_BREAK)
            assert state.groups[0].lag == 0
            assert state.directive.epoch > epoch
            assert writer.agent.level is Level.CIRCUIT_BREAK
            await eventually(lambda: _acknowledged(address))
            levels = [heard.level for heard in writer.heard]
            assert levels == sorted(levels)


async def test_process_goes_its_own_way_while_the_governor_is_stopped(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """SIGSTOP: its sockets stay open, its TTL passes, own lag decides; awake, it directs again."""
    with governor(kafka, topic, tmp_path) as (process, address):
        await process.serving()
        async with attached(address, topic) as writer:
            await produce(producer, topic, 150)
            await writer.at(Level.SOFT)
            process.pause()
            await eventually(lambda: writer.agent.applied.authority == "itself")
            assert writer.agent.level is Level.SOFT
            await writer.at(Level.NORMAL)
            process.resume()
            await writer.at(Level.SOFT)
            assert writer.agent.applied.authority == "governor"


async def test_governor_without_kafka_directs_nobody(topic: str, tmp_path: Path) -> None:
    """It runs, is not ready, says why, and turns processes away; they run all the same."""
    with governor("127.0.0.1:1", topic, tmp_path) as (process, address):
        await process.door()
        async with attached(address, topic) as writer:
            refusal = await _refusal(address, [pb.ControlRequest(report=_report("writer-9"))])
            assert "without Kafka no governor leads" in refusal.message
            state = await state_at(address)
            assert state.directive.level == pb.LEVEL_UNSPECIFIED
            assert "without Kafka no governor leads" in state.directive.explanation
            assert not state.leading
            assert "NOT_SERVING" in await _health(address)
            assert writer.heard == []
            assert writer.agent.applied.authority == "itself"


async def test_watch_shows_the_state_at_once_and_each_change(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Without asking again."""
    with governor(kafka, topic, tmp_path) as (process, address):
        await process.serving()
        async with channel(address) as connection:
            stub = governor_pb2_grpc.GovernorServiceStub(connection)
            async with aclosing(stream(stub.WatchState, pb.WatchStateRequest())) as states:
                first = await anext(states)
                assert first.state.directive.level == pb.LEVEL_NORMAL
                await produce(producer, topic, 150)
                async for later in states:
                    if later.state.directive.level == pb.LEVEL_SOFT:
                        break


async def test_silent_process_is_let_go_and_forgotten(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """A stopped process keeps its socket; the governor does not wait for it."""
    with governor(kafka, topic, tmp_path) as (process, address):
        await process.serving()
        refusal = await _refusal(address, [pb.ControlRequest(report=_report("writer-9"))])
        assert "reported nothing for 3 s" in refusal.message
        await eventually(lambda: _nobody(address))
        assert "writer-9" in await _ever_reported(address)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([pb.ControlRequest()], "report"),
        ([pb.ControlRequest(acknowledgement=pb.Acknowledgement())], "report"),
        ([pb.ControlRequest(report=pb.Report())], "report.process"),
        ([pb.ControlRequest(report=pb.Report(process="w"))], "report.memory_limit_bytes"),
        (
            [pb.ControlRequest(report=pb.Report(process="w", memory_limit_bytes=1))],
            "report.memory_level",
        ),
    ],
)
async def test_report_that_makes_no_sense_is_refused_with_its_field(
    messages: list[pb.ControlRequest], field: str, governed: str
) -> None:
    """Over gRPC, the field is in BadRequest."""
    assert (await _refusal(governed, messages)).facts["field"] == field


async def test_stream_speaks_for_one_process(governed: str) -> None:
    """Nobody reports for another."""
    both = [pb.ControlRequest(report=_report(name)) for name in ("writer-1", "writer-2")]
    assert (await _refusal(governed, both)).facts["field"] == "report.process"


@pytest.fixture
async def governed(kafka: str, topic: str, tmp_path: Path) -> AsyncIterator[str]:
    """Give the address of a governor that serves."""
    with governor(kafka, topic, tmp_path) as (process, address):
        await process.serving()
        yield address


async def _refusal(address: str, messages: list[pb.ControlRequest]) -> K2Error:
    async with channel(address) as connection:
        call = governor_pb2_grpc.GovernorServiceStub(connection).Control()
        try:
            for message in messages:
                await call.write(message)
            async with asyncio.timeout(PATIENCE_S):
                while isinstance(await call.read(), pb.ControlResponse):
                    pass
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        finally:
            call.cancel()
    raise AssertionError("the governor closed the stream without saying why")


def _report(process: str) -> pb.Report:
    return pb.Report(
        service="writer",
        process=process,
        memory_limit_bytes=1_000,
        memory_level=pb.LEVEL_NORMAL,
        applied_level=pb.LEVEL_NORMAL,
        applied_lag_level=pb.LEVEL_NORMAL,
    )


async def _acknowledged(address: str) -> bool:
    """Whether the one process has applied what is directed now."""
    state = await state_at(address)
    said = [(p.acknowledged_epoch, p.acknowledged_sequence) for p in state.processes]
    return said == [(state.directive.epoch, state.directive.sequence)]


async def _health(address: str) -> str:
    async with channel(address) as connection:
        return await health_of(health_pb2_grpc.HealthStub(connection))


async def _nobody(address: str) -> bool:
    return not (await state_at(address)).processes


async def _ever_reported(address: str) -> set[str]:
    """Return the processes that the governor has recorded."""
    async with channel(address) as connection:
        stub = governor_pb2_grpc.GovernorServiceStub(connection)
        listed = await call(stub.ListRecords, pb.ListRecordsRequest(page_size=1_000))
    return {process.process for record in listed.records for process in record.processes}
