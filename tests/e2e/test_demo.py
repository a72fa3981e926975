"""`k2 demo` and `k2 up` from the outside: what they prove, and what they leave behind."""

from __future__ import annotations

import os
import re
import signal
import socket

import psutil
import pytest

from tests.support.cli import START_TIMEOUT_S, Home
from tests.support.polling import eventually_sync

SHORT = ("demo", "--duration", "3", "--symbols", "4", "--rate", "300")
# Still at its trades when it is interrupted, however slow who does that is.
LONG = ("demo", "--duration", "60", "--symbols", "4", "--rate", "300")
INTERRUPTED = 130
PROOF_FAILED = 1


def assert_nothing_is_left(home: Home) -> None:
    assert home.processes() == []
    assert list((home.root / "demo").iterdir()) == []
    assert {path.name for path in home.folder.iterdir()} <= {".k2", "demo.txt"}


def test_a_session_is_proven(home: Home) -> None:
    """Every symbol equal, exit code 0, and the folder is gone.

    At the greatest pace too, over before the first commit, rows of the proof come from Iceberg.
    """
    answer = home.k2(*SHORT, "--pace", "max", timeout_s=START_TIMEOUT_S)
    assert answer.code == 0, answer
    assert "PROVEN" in answer.text
    counts = re.search(r"([\d,]+) from Iceberg, ([\d,]+) from the tail", answer.text)
    assert counts is not None
    from_iceberg, from_tail = (int(count.replace(",", "")) for count in counts.groups())
    assert from_iceberg > 0
    assert f"{from_iceberg + from_tail:,} answered" in answer.text
    assert "nothing missing, nothing twice" in answer.text
    assert_nothing_is_left(home)


def test_an_exchange_that_leaves_trades_out_fails_the_proof(home: Home) -> None:
    """Trades of the session that the exchange did not send and nobody fetched: exit code 1."""
    home.variables["K2_INGESTOR_HEAL"] = "false"
    withheld = ("--fault", "skip:at=100,count=2")
    answer = home.k2(*SHORT, "--pace", "max", *withheld, timeout_s=START_TIMEOUT_S)
    assert answer.code == PROOF_FAILED, answer
    assert "FAILED" in answer.text
    assert_nothing_is_left(home)


def test_trades_that_an_exchange_sends_twice_are_proven_once(home: Home) -> None:
    """What is sent again is stored once, and no answer shows it twice."""
    doubled = ("--fault", "duplicate:at=100,count=2")
    answer = home.k2(*SHORT, "--pace", "max", *doubled, timeout_s=START_TIMEOUT_S)
    assert answer.code == 0, answer
    assert "nothing twice" in answer.text
    assert_nothing_is_left(home)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting kafka"),
        (signal.SIGTERM, "starting query"),
        (signal.SIGINT, "starting ingestor"),
        (signal.SIGTERM, "sent "),
        (signal.SIGINT, "PROVEN"),
    ],
)
def test_a_signal_leaves_nothing(home: Home, number: signal.Signals, moment: str) -> None:
    """Ctrl-C and SIGTERM at any moment: no process, no port, no folder, no traceback."""
    words = (*SHORT, "--pace", "max") if moment == "PROVEN" else LONG
    with home.started(*words) as demo:
        demo.until(moment)
        code = demo.end(number)
        assert "Traceback" not in demo.text
    assert code == (0 if moment == "PROVEN" else INTERRUPTED)
    assert_nothing_is_left(home)


def test_what_was_killed_is_cleared_by_the_next(home: Home) -> None:
    """SIGKILL leaves a folder and nothing that runs; the next demo removes it."""
    with home.started(*LONG) as demo:
        demo.until("sent ")
        ports = home.listening()
        demo.end(signal.SIGKILL)
        eventually_sync(lambda: not home.processes(), what="no process left")
        eventually_sync(lambda: not listening_now(ports), what="no port listens")
    assert [path.name for path in (home.root / "demo").iterdir()] == [str(demo.process.pid)]
    with home.started(*LONG) as successor:
        successor.until("starting kafka")
        assert successor.end(signal.SIGINT) == INTERRUPTED
    assert_nothing_is_left(home)


def listening_now(ports: list[int]) -> list[int]:
    return [port for port in ports if _answers(port)]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_kafka_that_is_not_there_is_one_sentence(home: Home) -> None:
    """Within seconds, with the address, and nothing half-started."""
    home.variables["K2_KAFKA_BOOTSTRAP"] = "127.0.0.1:1"
    answer = home.k2(*SHORT)
    assert answer.code == 3
    assert "127.0.0.1:1" in answer.said
    assert answer.said.count("\n") <= 2, answer.said
    assert_nothing_is_left(home)


def test_up_goes_on_where_it_ended(home: Home) -> None:
    """A second up is refused; down ends the first; up again serves old rows and new, none twice.

    Down finds what runs though its address file is damaged, and names the file.
    """
    started = home.k2(
        "up", "--detach", "--symbols", "2", "--flush-after-s", "1", timeout_s=START_TIMEOUT_S
    )
    assert started.code == 0, started
    try:
        refused = home.k2("up")
        assert (refused.code, refused.said.count("\n")) == (5, 1), refused
        assert "k2 down" in refused.said
        before = rows_of(home)
        file = home.root / "up" / "run" / "k2-up.json"
        file.write_text("garbage")
        ended = home.k2("down", timeout_s=START_TIMEOUT_S)
        assert (ended.code, str(file) in ended.said) == (0, True), ended
        assert home.processes() == []
        file.unlink()
        again = home.k2(
            "up", "--detach", "--symbols", "2", "--flush-after-s", "1", timeout_s=START_TIMEOUT_S
        )
        assert again.code == 0, again
        after = eventually_sync(lambda: more_rows(home, than=len(before)), 30, what="new rows")
    finally:
        assert home.k2("down", timeout_s=START_TIMEOUT_S).code == 0
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    assert home.k2("down").text == "K2 is not up\n"


def rows_of(home: Home) -> list[str]:
    words = ("trades", "BTCUSDT", "--limit", "0", "--oldest-first", "--columns", "trade_id")
    return home.k2(*words, "-o", "csv").text.splitlines()


def more_rows(home: Home, *, than: int) -> list[str]:
    rows = rows_of(home)
    return rows if len(rows) > than else []


@pytest.mark.parametrize(
    "damaged", ["data/kafka/kafka.json", "data/catalog.db", "data/schemas.json", "run/door.json"]
)
def test_damaged_data_is_one_sentence(home: Home, damaged: str) -> None:
    """It names the file and what to do, at the first attempt, and nothing runs on."""
    file = home.root / "up" / damaged
    file.parent.mkdir(parents=True)
    file.write_text("garbage")
    answer = home.k2("up", timeout_s=START_TIMEOUT_S)
    assert answer.code == 5
    assert answer.said.count("\n") == 1, answer.said
    assert str(file.parent) in answer.said
    assert "remove it" in answer.said or "move it away" in answer.said
    assert answer.text.count("starting writer") <= 1
    assert home.processes() == []


def test_a_killed_kafka_is_started_again(home: Home) -> None:
    """By `k2 up`, on its old data; trades go on arriving. One that hangs is told in the answers."""
    assert home.k2("up", "--detach", "--symbols", "2", timeout_s=START_TIMEOUT_S).code == 0
    try:
        killed = eventually_sync(lambda: broker_pid(home), what="the broker")
        os.kill(killed, signal.SIGSTOP)
        eventually_sync(lambda: "cannot be reached" in verdict(home), 40, what="said to be away")
        os.kill(killed, signal.SIGKILL)
        eventually_sync(lambda: broker_pid(home) not in (None, killed), 60, what="a new broker")
        before = len(rows_of(home))
        eventually_sync(lambda: more_rows(home, than=before), 60, what="new rows")
        eventually_sync(lambda: "not complete" not in verdict(home), 30, what="complete again")
    finally:
        assert home.k2("down", timeout_s=START_TIMEOUT_S).code == 0
    assert home.processes() == []


def verdict(home: Home) -> str:
    return home.k2("trades", "BTCUSDT", "-n", "1", "-o", "table").said


def broker_pid(home: Home) -> int | None:
    """Return the process id of the broker that runs on the home's data."""
    kafka = str(home.root / "up" / "data" / "kafka")
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "kafka.Kafka" in words and any(kafka in word for word in words):
            return process.pid
    return None
