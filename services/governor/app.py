"""The governor, wired together."""

from __future__ import annotations

import random

from externalscaler.externalscaler_pb2_grpc import add_ExternalScalerServicer_to_server
from k2.governor.v1 import governor_pb2_grpc

from libs.market.clock import Clock, SystemClock
from libs.rpc.sizes import TRICKLE_OPTIONS
from libs.runtime.serving import Service
from services.governor.board import Board
from services.governor.config import GovernorConfig
from services.governor.controller import Controller
from services.governor.deciding.govern import Standing
from services.governor.leading import leadership
from services.governor.leading.leadership import Leadership
from services.governor.leading.recorder import Recorder
from services.governor.observing.collector import Forget, ReportCollector
from services.governor.observing.offsets import KafkaOffsets
from services.governor.observing.sampler import LagSampler, OffsetSource, Sample
from services.governor.record.history import History
from services.governor.record.topic import Topic
from services.governor.scaling.servicer import SERVICE as SCALER
from services.governor.scaling.servicer import ScalerServicer
from services.governor.servicer import GovernorServicer


async def build(config: GovernorConfig) -> Service:
    source = KafkaOffsets(config.kafka_bootstrap, config.groups, config.topics)
    return wire(config, source, SystemClock())


def wire(config: GovernorConfig, source: OffsetSource, clock: Clock) -> Service:
    """Wire the governor on any source of offsets.

    It serves once it leads and has ordered from a full sample, or stands by for one that leads.
    """
    standing = Standing(
        config.rules,
        config.ttl_s,
        epoch=0,
        settings=config.settings,
        policy=config.policy,
    )
    patience_s = leadership.patience_s(config.ttl_s, random.random())  # noqa: S311 (jitter)
    board = Board.blank(standing, Leadership(config.name, patience_s))
    collector = ReportCollector(board.fleet, ttl_s=config.ttl_s, clock=clock)
    controller = Controller(board, clock)

    sampler = make_sampler(config, source, board, collector, controller)
    topic = Topic(config.kafka_bootstrap, config.directives_topic)
    recorder = Recorder(board, topic, config.ttl_s, clock)

    def listening(address: str) -> None:
        recorder.address = config.advertised_address or address

    def ready() -> bool:
        now_s = clock.monotonic_s()
        following = not board.leadership.value.leading
        return board.directs(config.ttl_s, now_s) or (
            following and leadership.sees_leader(board.leadership.value, now_s)
        )

    servicer = GovernorServicer(board, collector, recorder, History(topic), clock)
    add = governor_pb2_grpc.add_GovernorServiceServicer_to_server
    return Service(
        name=config.name,
        kind="governor",
        actors=[controller, collector, recorder, sampler],
        servicers=[
            (add, servicer, "k2.governor.v1.GovernorService"),
            (add_ExternalScalerServicer_to_server, ScalerServicer(board), SCALER),
        ],
        grpc_address=config.grpc_address,
        metrics_address=config.metrics_address,
        listening=listening,
        ready=ready,
        run_dir=config.run_dir,
        rpc_grace_s=0.5,
        rpc_options=TRICKLE_OPTIONS,
    )


def make_sampler(
    config: GovernorConfig,
    source: OffsetSource,
    board: Board,
    collector: ReportCollector,
    controller: Controller,
) -> LagSampler:
    async def tell(sample: Sample) -> None:
        await collector.tell(Forget())
        await controller.tell(sample)

    return LagSampler(
        source,
        config.groups,
        board.fleet,
        tell,
        every_s=config.sample_every_s,
        fresh_s=config.report_fresh_s,
    )
