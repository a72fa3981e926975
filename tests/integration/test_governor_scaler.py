"""KEDA's calls, by a client of its own and by grpcurl: how many writers, and is there work."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from externalscaler import externalscaler_pb2 as pb
from externalscaler import externalscaler_pb2_grpc as pb_grpc

from libs.market.errors import K2Error
from libs.rpc.client import call, channel, stream
from services.governor.scaling.servicer import METRIC, SERVICE
from tests.support.governor import STEADY, attached, governor, produce
from tests.support.polling import eventually

if TYPE_CHECKING:
    from externalscaler.externalscaler_pb2_grpc import ExternalScalerAsyncStub

REF = pb.ScaledObjectRef(name="k2-writer", namespace="k2")
METRICS = pb.GetMetricsRequest(scaledObjectRef=REF, metricName=METRIC)


@asynccontextmanager
async def scaler(address: str) -> AsyncIterator[ExternalScalerAsyncStub]:
    async with channel(address) as connection:
        yield pb_grpc.ExternalScalerStub(connection)


async def wanted(stub: ExternalScalerAsyncStub) -> float | None:
    """Ask as KEDA does; None while the governor does not know yet, or who leads."""
    try:
        values = (await call(stub.GetMetrics, METRICS)).metricValues
    except K2Error as error:
        if error.reason not in ("UNAVAILABLE", "NOT_LEADING"):
            raise
        return None
    assert [(value.metricName, value.metricValue) for value in values] == [
        (METRIC, int(values[0].metricValueFloat))
    ]
    return values[0].metricValueFloat


async def test_leader_and_standby_answer_keda(
    kafka: str, topic: str, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """Two writers are as many as are asked for; work is there once records are; a standby asks."""
    async with AsyncExitStack() as stack:
        leader, address = stack.enter_context(governor(kafka, topic, tmp_path, STEADY))
        await leader.serving()
        second = governor(kafka, topic, tmp_path, STEADY, name="governor-2")
        standby, other = stack.enter_context(second)
        for number in (1, 2):
            name = f"writer-{number}"
            writer = await stack.enter_async_context(attached(address, topic, name))
            writer.own = replace(writer.own, positions={(topic, number): 0})
        stub = await stack.enter_async_context(scaler(address))
        await eventually(lambda: _asks_for(stub, 2), what="two writers wanted")

        await produce(producer, topic, 32)
        async with aclosing(stream(stub.StreamIsActive, REF, timeout_s=120)) as states:
            async for state in states:
                if state.result:
                    break
        spec = (await call(stub.GetMetricSpec, REF)).metricSpecs
        assert [(s.metricName, s.targetSize, s.targetSizeFloat) for s in spec] == [(METRIC, 1, 1.0)]

        await standby.serving()
        through = await stack.enter_async_context(scaler(other))
        await eventually(lambda: _asks_for(through, 2), what="two writers wanted, by the standby")
        assert (await call(through.IsActive, REF)).result


async def test_keda_calls_are_found_by_reflection(
    kafka: str, topic: str, tmp_path: Path, grpcurl: Path
) -> None:
    """Without a proto file, as an operator tries them."""
    with governor(kafka, topic, tmp_path, STEADY) as (process, address):
        await process.serving()
        async with attached(address, topic) as writer, scaler(address) as stub:
            writer.own = replace(writer.own, positions={(topic, 0): 0})
            await eventually(lambda: _asks_for(stub, 1), what="one writer wanted")
            shown = await asyncio.to_thread(_grpcurl, grpcurl, address, f"{SERVICE}/GetMetrics")
            assert shown == {
                "metricValues": [{"metricName": METRIC, "metricValue": "1", "metricValueFloat": 1}]
            }


async def test_scaler_says_what_it_does_not_know(kafka: str, topic: str, tmp_path: Path) -> None:
    """Another group, another metric, and no writer yet: errors, and never a number from nowhere."""
    with governor(kafka, topic, tmp_path, STEADY) as (process, address):
        await process.serving()
        async with scaler(address) as stub:
            for request, reason in (
                (METRICS, "UNAVAILABLE"),
                (pb.GetMetricsRequest(scaledObjectRef=REF, metricName="x"), "NOT_FOUND"),
                (pb.GetMetricsRequest(scaledObjectRef=_of("another")), "NOT_FOUND"),
            ):
                with pytest.raises(K2Error) as refused:
                    await call(stub.GetMetrics, request)
                assert refused.value.reason == reason
            with pytest.raises(K2Error, match="no group another is watched"):
                await call(stub.IsActive, _of("another"))


def _of(group: str) -> pb.ScaledObjectRef:
    return pb.ScaledObjectRef(name="w", scalerMetadata={"consumerGroup": group})


async def _asks_for(stub: ExternalScalerAsyncStub, writers: int) -> bool:
    return await wanted(stub) == writers


def _grpcurl(grpcurl: Path, address: str, method: str) -> object:
    """Call by reflection."""
    words = [str(grpcurl), "-plaintext", "-d", "{}", address, method]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
