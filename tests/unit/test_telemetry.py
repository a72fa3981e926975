"""Logs that programs read, a metrics page, and traces only where they are asked for."""

from __future__ import annotations

import json
import logging
import socket
import sys
import urllib.request
from collections.abc import Iterator
from typing import Protocol

import pytest
import structlog
from opentelemetry import trace
from prometheus_client import Counter

from libs.market.errors import InvalidError
from libs.telemetry import logs, metrics, tracing
from libs.telemetry.ports import CannotListenError, claim, free_port, lasting_port, split_address


class Stderr(Protocol):
    def __call__(self) -> str: ...


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Stderr]:
    """What was logged since; all is set back afterwards."""
    root = logging.getLogger()
    handlers, level, hook = list(root.handlers), root.level, sys.excepthook
    yield lambda: capsys.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook
    structlog.reset_defaults()


def events(stderr: Stderr) -> list[dict[str, object]]:
    return [json.loads(line) for line in stderr().splitlines()]


def test_events_are_json_lines_without_a_terminal(stderr: Stderr) -> None:
    """With service, time and level; facts as they are."""
    logs.set_up("writer-1")

    structlog.get_logger().info("commit_landed", rows=3, folder=sys)

    (event,) = events(stderr)
    assert event["event"] == "commit_landed"
    assert (event["service"], event["level"], event["rows"]) == ("writer-1", "info", 3)
    assert str(event["time"]).endswith("Z")


def test_libraries_log_in_the_same_form(stderr: Stderr) -> None:
    """Also their exceptions; what they say at INFO is left out."""
    logs.set_up("writer-1")
    library = logging.getLogger("aiokafka.consumer")

    library.info("Updating subscribed topics")
    library.error("fetch failed on %s", "trades", exc_info=OSError("gone"))

    (event,) = events(stderr)
    assert event["event"] == "fetch failed on trades"
    assert "OSError: gone" in str(event["exception"])


def test_level_is_honoured(stderr: Stderr) -> None:
    """What is below it is not logged."""
    logs.set_up("writer-1", level="warning")

    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")

    assert [event["event"] for event in events(stderr)] == ["loud"]


def test_last_set_up_wins(stderr: Stderr) -> None:
    """Two services in one test process log each event once."""
    logs.set_up("first")
    logs.set_up("second")

    structlog.get_logger().info("once")

    assert [event["service"] for event in events(stderr)] == ["second"]


def test_crash_is_an_event(stderr: Stderr) -> None:
    """What nobody caught is logged like everything else."""
    logs.set_up("writer-1")
    error = RuntimeError("a bug")

    sys.excepthook(RuntimeError, error, None)

    (event,) = events(stderr)
    assert event["event"] == "crashed"
    assert "a bug" in str(event["exception"])


def test_console_format_is_for_people(stderr: Stderr) -> None:
    """One line an event, no JSON."""
    logs.set_up("writer-1", format="console")

    structlog.get_logger().info("commit_landed", rows=3)

    shown = stderr()
    assert "commit_landed" in shown
    assert "rows=3" in shown


def test_metrics_page_shows_what_was_counted() -> None:
    """On the loopback, at a free port, until stopped."""
    Counter("pages_of_this_test", "Read by the test").inc(5)
    page = metrics.serve(":0")
    try:
        with urllib.request.urlopen(f"http://{page.address}/metrics", timeout=60) as response:
            assert b"pages_of_this_test_total 5.0" in response.read()
        assert page.address.startswith("127.0.0.1:")
        with pytest.raises(CannotListenError, match="it is in use"):
            metrics.serve(page.address)
    finally:
        page.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(split_address(page.address), timeout=60)


@pytest.mark.parametrize(
    ("environ", "exporter"),
    [
        ({}, "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4317"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "none"),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, "none"),
    ],
)
def test_exporter_is_what_the_environment_asks_for(environ: dict[str, str], exporter: str) -> None:
    """By the standard's own variables and their order of precedence."""
    assert tracing.exporter_name(environ) == exporter


def test_without_an_exporter_spans_cost_nothing() -> None:
    """No provider is set, and a span records nothing."""
    assert tracing.set_up("writer-1", {}) is None
    assert not tracing.enabled()
    with tracing.tracer("k2.test").start_as_current_span("commit") as span:
        assert not span.is_recording()
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("address", ["", "localhost", "host:", "host:x", "host:65536", "h:-1"])
def test_address_that_is_none_is_refused(address: str) -> None:
    """Before anything is opened."""
    with pytest.raises(InvalidError, match="is not host:port"):
        split_address(address)


def test_host_of_another_machine_is_said() -> None:
    """TEST-NET addresses are nobody's."""
    with pytest.raises(CannotListenError, match="choose an address of this machine"):
        metrics.serve("192.0.2.1:0")


def test_a_free_port_is_one_nobody_listens_on() -> None:
    """Port 0 gives one that is free; one that is listened on is refused."""
    port = free_port("127.0.0.1:0")
    assert free_port(f"127.0.0.1:{port}") == port
    in_use = pytest.raises(CannotListenError, match=f"127.0.0.1:{port}: it is in use")
    with socket.create_server(("127.0.0.1", port)), in_use:
        free_port(f"127.0.0.1:{port}")


def test_a_lasting_port_is_given_to_nobody_else() -> None:
    """It is free, no other is told the same, and the kernel gives none like it by itself."""
    ports = [lasting_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    assert all(claim(port) is None for port in ports)
    with socket.create_server(("127.0.0.1", 0)) as given:
        assert max(ports) < given.getsockname()[1]
    for port in ports:
        assert free_port(f"127.0.0.1:{port}") == port
