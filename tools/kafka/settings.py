"""What one KRaft node of ours is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

HOST = "127.0.0.1"

JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)
STARTED = b"Kafka Server started"


class Identity(msgspec.Struct, frozen=True):
    """What a data folder keeps from its first start on, so that clients find it again."""

    cluster_id: str
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in a data folder."""

    root: Path

    @property
    def identity(self) -> Path:
        return self.root / "kafka.json"

    @property
    def properties(self) -> Path:
        return self.root / "server.properties"

    @property
    def log_dir(self) -> Path:
        return self.root / "log"

    @property
    def output(self) -> Path:
        return self.root / "kafka.log"

    @property
    def lock(self) -> Path:
        return self.root / "kafka.lock"


def server_properties(identity: Identity, log_dir: Path) -> str:
    """Write server.properties: loopback only, one replica of everything, nothing slow at start."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{identity.controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{identity.port},"
        f"CONTROLLER://{HOST}:{identity.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{identity.port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": log_dir,
        "auto.create.topics.enable": "false",
        "num.partitions": 16,
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # Fault tests wait until a killed member's session ends: 6 s at least by default.
        "group.min.session.timeout.ms": 500,
        # A broker that was killed is registered until its session ends, and its next start waits
        # for that: 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
