from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from libs.kafka.admin import end_offsets, ensure_topics
from libs.kafka.client import start_producer, stop_client
from libs.kafka.send import send_values
from libs.market.errors import ConflictError, CorruptError, UnavailableError
from tests.support.polling import eventually, eventually_sync
from tools.kafka import folder
from tools.kafka.broker import LocalKafka
from tools.kafka.settings import Layout

TOPIC = "market.crypto.trades.test"


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a process that owns a broker, as `python -m tools.kafka` does."""
    command = [sys.executable, "-m", "tools.kafka", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "Kafka listens at 127.0.0.1:" in process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def java_of(owner: subprocess.Popen[str]) -> psutil.Process:
    (child,) = psutil.Process(owner.pid).children()
    return child


async def test_a_restart_keeps_records_port_and_cluster(tmp_path: Path) -> None:
    """After an orderly stop, and after the broker was killed."""
    kafka = LocalKafka(tmp_path)
    async with kafka:
        first = kafka.bootstrap, kafka.cluster_id
        await ensure_topics(kafka.bootstrap, [TOPIC])
        producer = await start_producer(kafka.bootstrap, "test")
        await send_values(producer, TOPIC, 3, [b"k"] * 5, [b"v"] * 5)
        await stop_client(producer)
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGKILL)

    async with LocalKafka(tmp_path) as again:
        assert (again.bootstrap, again.cluster_id) == first
        assert (await end_offsets(again.bootstrap, TOPIC))[3] == 5
    assert kafka.pid is None


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_the_broker_ends_with_its_owner(
    owner: subprocess.Popen[str], number: signal.Signals
) -> None:
    """However the owner ends, no process and no port stays."""
    java = java_of(owner)
    listening = [c.laddr for c in java.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}

    owner.send_signal(number)
    owner.wait(timeout=60)

    await eventually(lambda: not any(answers(address.port) for address in listening), 15)
    await eventually(lambda: not java.is_running() or java.status() == psutil.STATUS_ZOMBIE, 15)
    if number is not signal.SIGKILL:
        assert owner.returncode == 0


def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """An interrupted first start is a first start again."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "tools.kafka", "--data", str(data)]
    owner = subprocess.Popen(command, start_new_session=True)
    while not (data / "kafka.log").exists():
        assert owner.poll() is None
    os.killpg(owner.pid, signal.SIGINT)

    assert owner.wait(timeout=60) == 0
    eventually_sync(lambda: not running_on(data), what="no process left")
    kafka = LocalKafka(data)
    kafka.start()
    kafka.stop()


def running_on(data: Path) -> list[psutil.Process]:
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if str(data) in str(process.info["cmdline"])]


def test_a_folder_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two brokers on one log would ruin it."""
    monkeypatch.setattr(folder, "LOCK_TIMEOUT_S", 0.2)
    kafka = LocalKafka(tmp_path)
    kafka.start()
    try:
        with pytest.raises(ConflictError, match=f"another Kafka runs on {tmp_path}: stop it"):
            LocalKafka(tmp_path).start()
    finally:
        kafka.stop()


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """It names the port and says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match=f"port {port} of 127.0.0.1.* is taken: stop what"):
            LocalKafka(tmp_path, port=port).start()


@pytest.mark.parametrize("damage", ["kafka.json", "log/meta.properties"])
def test_a_corrupt_folder_is_refused(tmp_path: Path, damage: str) -> None:
    """Its own notes or Kafka's: one sentence, and nothing is removed."""
    kafka = LocalKafka(tmp_path)
    kafka.start()
    kafka.stop()
    (tmp_path / damage).write_text("garbage")

    with pytest.raises(
        CorruptError, match=f"{tmp_path} is not a folder Kafka can use .* remove it"
    ):
        LocalKafka(tmp_path).start()
    assert (tmp_path / damage).read_text() == "garbage"


def test_a_format_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, and the folder can be used afterwards."""
    monkeypatch.setattr(folder, "FORMAT_TIMEOUT_S", 0.2)
    hanging = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(UnavailableError, match="did not make its log"):
        folder.prepare(Layout(tmp_path), 0, hanging)
    assert not Layout(tmp_path).log_dir.exists()


def test_mistakes_are_one_sentence_at_the_command_line(tmp_path: Path) -> None:
    """No traceback."""
    told = subprocess.run(
        [sys.executable, "-m", "tools.kafka", "--data", tmp_path, "--java", tmp_path / "none"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert told.returncode == 1
    assert "does not run as Java" in told.stderr
    assert "Traceback" not in told.stderr
