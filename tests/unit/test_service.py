"""A service in this process: what is open while it runs, and in which order it stops."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2_grpc

from libs.rpc.client import call, channel
from libs.runtime import doors
from libs.runtime.service import Service, running
from libs.runtime.supervisor import RestartIntensityError
from libs.telemetry.ports import CannotListenError
from tests.support.actors import WITHOUT_WAITING, Recorder, ScriptedError
from tests.support.echo import ECHO, EchoStub, echo_servicer, text
from tests.support.polling import eventually
from tests.support.processes import health_of


def toy(diary: list[str], run_dir: Path, *, failing_runs: int = 0) -> Service:
    async def release() -> None:
        diary.append("released")

    return Service(
        name="toy-1",
        kind="toy",
        actors=[Recorder("toy", diary, failing_runs=failing_runs)],
        servicers=[echo_servicer()],
        grpc_address="127.0.0.1:0",
        metrics_address="127.0.0.1:0",
        run_dir=run_dir,
        release=release,
        policy=WITHOUT_WAITING,
    )


async def test_running_service_answers_and_has_a_door(tmp_path: Path) -> None:
    """GRPC, health, metrics and door are there, and gone afterwards."""
    async with running(toy([], tmp_path)) as run:
        door = doors.find(tmp_path)["toy-1"]
        assert (door.grpc, door.metrics) == (run.grpc_address, run.metrics_address)
        async with channel(run.grpc_address) as open_channel:
            assert (await call(EchoStub(open_channel).unary, text("hi"))).value == "hi"
            stub = health_pb2_grpc.HealthStub(open_channel)
            await eventually(lambda: is_serving(stub))
        page = await asyncio.to_thread(read, f"http://{run.metrics_address}/metrics")
        assert "k2_rpc_seconds" in page

    assert doors.find(tmp_path) == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        body: bytes = response.read()
    return body.decode()


async def is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    return [await health_of(stub, name) for name in ("", ECHO)] == ["SERVING"] * 2


async def test_health_waits_for_ready(tmp_path: Path) -> None:
    """SERVING follows what the service says of itself, both ways."""
    ready: list[bool] = []
    service = replace(toy([], tmp_path), ready=lambda: bool(ready))
    async with running(service) as run, channel(run.grpc_address) as open_channel:
        stub = health_pb2_grpc.HealthStub(open_channel)
        assert await health_of(stub) == "NOT_SERVING"
        ready.append(True)
        await eventually(lambda: is_serving(stub))
        ready.clear()

        async def stopped_serving() -> bool:
            return await health_of(stub) == "NOT_SERVING"

        await eventually(stopped_serving)


async def test_stop_is_ordered(tmp_path: Path) -> None:
    """Health first, then the actors drain while the server still answers, then all is released."""
    diary: list[str] = []
    seen_while_draining: list[str] = []

    class SlowDrain(Recorder):
        async def stop(self) -> None:
            async with channel(run.grpc_address) as open_channel:
                stub = health_pb2_grpc.HealthStub(open_channel)
                seen_while_draining.append(await health_of(stub))
            await super().stop()

    service = replace(toy(diary, tmp_path), actors=[SlowDrain("toy", diary)])
    async with running(service) as run:
        await eventually(lambda: "toy run" in diary)

    assert seen_while_draining == ["NOT_SERVING"]
    assert diary[-4:] == ["toy stop", "toy drained", "toy close", "released"]


async def test_failing_actors_end_the_service(tmp_path: Path) -> None:
    """`ended` raises, leaving raises the same, and nothing stays open."""
    diary: list[str] = []

    async def run_until_it_ends() -> None:
        async with running(toy(diary, tmp_path, failing_runs=99)) as run:
            await run.ended()

    with pytest.raises(RestartIntensityError):
        await run_until_it_ends()
    assert diary[-1] == "released"
    assert doors.find(tmp_path) == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_ready_that_raises_ends_the_service(tmp_path: Path) -> None:
    """It is a bug that must not leave health at its last word."""

    def broken() -> bool:
        raise ScriptedError("cannot say")

    async def run_until_it_ends() -> None:
        async with running(replace(toy([], tmp_path), ready=broken)) as run:
            await run.ended()

    with pytest.raises(ScriptedError, match="cannot say"):
        await asyncio.wait_for(run_until_it_ends(), 60)


async def test_port_in_use_releases_what_was_built(tmp_path: Path) -> None:
    """For the gRPC port and for the metrics port."""
    async with running(toy([], tmp_path)) as first:
        for taken in (
            {"grpc_address": first.grpc_address},
            {"metrics_address": first.metrics_address},
        ):
            diary: list[str] = []
            second = replace(toy(diary, tmp_path / "other"), **taken)
            with pytest.raises(CannotListenError, match="it is in use"):
                async with running(second):
                    pass
            assert diary == ["released"]


async def test_cancelled_body_still_stops_in_order(tmp_path: Path) -> None:
    """Cancelling who runs the service drains it all the same."""
    diary: list[str] = []

    async def run_for_ever() -> None:
        async with running(toy(diary, tmp_path)) as run:
            await run.ended()

    task = asyncio.create_task(run_for_ever())
    await eventually(lambda: "toy run" in diary)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert diary[-4:] == ["toy stop", "toy drained", "toy close", "released"]
