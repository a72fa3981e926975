"""A service as a real process: signals at any moment, exit codes, one clear sentence."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from libs.runtime import doors
from tests.support.polling import eventually, eventually_sync
from tests.support.processes import Process, arm, disarm, started

TOY = "tests.support.toy"
Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the toy with given variables; it ends with the test."""
    with ExitStack() as stack:

        def start_toy(*arguments: str, **env: str) -> Process:
            toy = started(TOY, name="toy-1", run_dir=tmp_path, env=env, arguments=arguments)
            return stack.enter_context(toy)

        yield start_toy


def logged(process: Process, event: str) -> bool:
    lines = [line for line in process.log_text().splitlines() if line.startswith("{")]
    return any(json.loads(line)["event"] == event for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_stops_in_order(start: Start, number: int) -> None:
    """Drained, door withdrawn, exit code 0, nothing printed but events."""
    process = start()
    await process.serving()

    process.signal(number)

    assert process.wait() == 0
    assert logged(process, "drained")
    assert doors.find(process.run_dir) == {}
    assert list(process.run_dir.glob("*.json")) == []
    assert all(line.startswith("{") for line in process.log_text().splitlines())


@pytest.mark.parametrize("trouble", ["hang_in_build", "hang_in_start"])
def test_signal_during_start_ends_cleanly(start: Start, trouble: str) -> None:
    """Whatever it waits for: SIGTERM ends it at once, with code 0."""
    process = start(K2_TEST_TROUBLE=trouble)
    eventually_sync(lambda: logged(process, "hanging"), 30)

    assert process.stop(timeout_s=60) == 0
    assert list(process.run_dir.glob("*.json")) == []


def test_thread_that_hangs_does_not_keep_the_process(start: Start) -> None:
    """A blocking call that never returns delays the end by some seconds, not for ever."""
    process = start(K2_TEST_TROUBLE="hang_in_thread")
    eventually_sync(lambda: logged(process, "hanging"), 30)

    assert process.stop(timeout_s=60) == 0


async def test_second_signal_does_not_wait_for_the_drain(start: Start) -> None:
    """Whoever insists gets out, with a code that says it was not clean."""
    process = start(K2_TEST_TROUBLE="hang_in_run")
    await process.serving()

    process.signal(signal.SIGINT)
    await eventually(lambda: logged(process, "stopping"))
    process.signal(signal.SIGINT)

    assert process.wait(timeout_s=60) == 70
    assert logged(process, "stopped_before_drained")


def test_failing_actor_ends_the_process(start: Start) -> None:
    """After too many restarts: 70, for whoever runs it to start it afresh."""
    process = start(K2_TEST_TROUBLE="fail")

    assert process.wait() == 70
    last = json.loads(process.log_text().splitlines()[-1])
    assert last["event"] == "failed"
    assert last["reason"] == "RESTART_INTENSITY"
    assert "the toy is broken" in last["error"]


def test_service_that_asks_for_it_stops_in_order_to_be_started_anew(start: Start) -> None:
    """Drained as by a signal; the code says what it ended for."""
    process = start(K2_TEST_TROUBLE="wants_restart")

    assert process.wait() == 75
    assert logged(process, "drained")
    assert doors.find(process.run_dir) == {}


def test_port_in_use_is_one_sentence(start: Start) -> None:
    """What is wrong and what to do, no traceback, non-zero."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(K2_TEST_GRPC_ADDRESS=address)
        assert process.wait() == 70

    lines = process.log_text().splitlines()
    assert len(lines) == 1
    assert f"cannot listen on {address}: it is in use; stop the process" in lines[0]


def test_what_is_not_there_is_one_sentence(start: Start) -> None:
    """A part that is missing at the start is said without a traceback."""
    process = start(K2_TEST_TROUBLE="no_kafka")

    assert process.wait() == 70
    assert "no Kafka at 127.0.0.1:9; start one with `k2 up`" in process.log_text()
    assert "Traceback" not in process.log_text()


def test_bad_configuration_names_every_mistake(start: Start) -> None:
    """78, before anything is started."""
    process = start(K2_TEST_TROUBLE="all", K2_TEST_GRPC_ADDRES=":0", K2_LOG_LEVEL="x")

    assert process.wait() == 78
    told = process.log_text()
    assert "3 mistakes" in told
    assert "did you mean K2_TEST_GRPC_ADDRESS?" in told
    assert "K2_TEST_TROUBLE='all'" in told
    assert "K2_LOG_LEVEL='x'" in told


def test_help_prints_the_variables(start: Start) -> None:
    """Also where the configuration is wrong."""
    process = start("--help", K2_LOG_LEVEL="x")

    assert process.wait() == 0
    assert "K2_TEST_GRPC_ADDRESS" in process.log_text()


def test_bad_usage_is_64(start: Start) -> None:
    """Services take variables, not options."""
    process = start("--port", "1")

    assert process.wait() == 64
    assert "--help" in process.log_text()


async def test_process_is_killed_at_a_fault_point_and_starts_again(
    start: Start, tmp_path: Path
) -> None:
    """SIGKILL from outside while it is held there; the door it left is not in the way."""
    faults = tmp_path / "faults"
    arm(faults, "toy.running")
    process = start(K2_FAULT_DIR=str(faults))
    process.reached("toy.running", faults)
    await process.door()

    process.kill()
    assert process.exit_code == -signal.SIGKILL
    assert doors.find(process.run_dir) == {}
    disarm(faults, "toy.running")
    process.restart()

    await process.serving()
    assert process.stop() == 0


async def test_process_with_a_taken_name_does_not_start(start: Start) -> None:
    """It names who has it."""
    first = start()
    await first.serving()
    second = start()

    assert second.wait() == 70
    assert f"toy-1 runs already as process {first.pid}" in second.log_text()
