"""The governor, wired together."""

from __future__ import annotations

from k2.governor.v1 import governor_pb2_grpc

from libs.market.clock import Clock, SystemClock
from libs.runtime.serving import Service
from services.governor.collector import Forget, ReportCollector
from services.governor.config import GovernorConfig
from services.governor.controller import Board, Controller
from services.governor.fleet import Fleet
from services.governor.govern import Standing
from services.governor.offsets import KafkaOffsets
from services.governor.published import Published
from services.governor.sampler import LagSampler, OffsetSource, Sample
from services.governor.servicer import GovernorServicer


async def build(config: GovernorConfig) -> Service:
    source = KafkaOffsets(config.kafka_bootstrap, config.groups, config.topics)
    return wire(config, source, SystemClock())


def wire(config: GovernorConfig, source: OffsetSource, clock: Clock) -> Service:
    """Wire the governor on any source of offsets; it serves from its first full sample on.

    The epoch is the start time in milliseconds, and newer than any that a process has obeyed: no
    file to keep, and a clock that went back does no harm.
    """
    standing = Standing(config.rules, config.ttl_s, epoch=clock.now_us() // 1_000)
    board = Board(Published(Fleet()), Published(standing), Published(None))
    collector = ReportCollector(board.fleet, ttl_s=config.ttl_s, clock=clock)
    controller = Controller(board, clock)

    async def tell(sample: Sample) -> None:
        await collector.tell(Forget())
        await controller.tell(sample)

    sampler = LagSampler(source, config.groups, board.fleet, tell, every_s=config.sample_every_s)
    servicer = GovernorServicer(board, collector, clock)
    add = governor_pb2_grpc.add_GovernorServiceServicer_to_server
    return Service(
        name=config.name,
        kind="governor",
        actors=[controller, collector, sampler],
        servicers=[(add, servicer, "k2.governor.v1.GovernorService")],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        ready=lambda: board.orders.value is not None,
        run_dir=config.run_dir,
        rpc_grace_s=0.5,
    )
