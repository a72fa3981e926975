"""`k2 chaos` and `k2 demo degradation` as people run them: every promise held, nothing left."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import replace

import msgspec
import pytest

from libs.degradation.memory import CGROUPS, OWN_CGROUP
from libs.market.errors import UnavailableError
from tests.support.cli import COMMAND, Answer, Home
from tests.support.polling import eventually_sync
from tools.process.cgroups import memory_cgroups, where_to_make

RUN_TIMEOUT_S = 600.0
INTERRUPTED = 130
PROMISE_BROKEN = 1
READER_LEFT = 141
LAG = ("chaos", "lag", "--scale", "0.04", "--cooldown", "2")
HA = ("--writers", "2", "--governors", "2")

pytestmark = [pytest.mark.whole, pytest.mark.timeout(1_300)]


class Event(msgspec.Struct):
    """A line that a run writes for programs."""

    scenario: str
    at_s: float
    event: str
    text: str
    says: str = ""
    held: bool = True
    passed: bool = False


def cgroups_can_be_made() -> bool:
    try:
        with memory_cgroups("k2-try", ["one"], 2**30):
            return True
    except UnavailableError:
        return False


def events_of(answer: Answer) -> list[Event]:
    return [msgspec.json.decode(line, type=Event) for line in answer.output.splitlines()]


def assert_nothing_is_left(home: Home) -> None:
    assert home.processes() == []
    assert list((home.root / "chaos").iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        LAG,
        (*LAG, *HA),
        ("chaos", "memory", "--cooldown", "2"),
        ("chaos", "kill"),
        ("chaos", "kill", *HA),
        ("chaos", "broker"),
        ("chaos", "catalog"),
        ("chaos", "exchange"),
    ],
    ids=" ".join,
)
def test_every_promise_holds(home: Home, words: tuple[str, ...]) -> None:
    """Each line is JSON, the last one is the verdict, and no process or folder stays."""
    answer = home.k2(*words, timeout_s=RUN_TIMEOUT_S)
    events = events_of(answer)
    assert [event.text for event in events if not event.held] == []
    assert (answer.code, events[-1].event, events[-1].passed) == (0, "verdict", True), answer
    assert {event.scenario for event in events} == {words[1]}
    assert_nothing_is_left(home)


@pytest.mark.skipif(not cgroups_can_be_made(), reason="takes root, and cgroups that count memory")
def test_the_kernel_holds_a_writer_to_its_limit(home: Home) -> None:
    """All levels by what a cgroup counts; nobody is killed for going beyond; no cgroup stays."""
    _, parent = where_to_make(CGROUPS, OWN_CGROUP)
    before = set(parent.glob("k2-chaos-*"))
    words = ("chaos", "memory", "--cgroup", "--limit-mib", "1024", "--cooldown", "2")
    answer = home.k2(*words, timeout_s=RUN_TIMEOUT_S)
    assert [event.text for event in events_of(answer) if not event.held] == []
    assert answer.code == 0
    assert_nothing_is_left(home)
    assert set(parent.glob("k2-chaos-*")) <= before


def test_the_demonstration_shows_both_ways_to_bend(home: Home) -> None:
    """Lag, then memory; ends with 0 where both held."""
    answer = home.k2("demo", "degradation", "--quick", timeout_s=RUN_TIMEOUT_S)
    verdicts = [event for event in events_of(answer) if event.event == "verdict"]
    assert [(event.scenario, event.passed) for event in verdicts] == [
        ("lag", True),
        ("memory", True),
    ], answer
    assert answer.code == 0
    assert_nothing_is_left(home)


@pytest.mark.parametrize(
    ("words", "variables", "broken"),
    [
        (
            ("chaos", "lag", "--scale", "0.005"),
            # So many readings in a row never come: no level rises, and nothing is put off.
            {"K2_GOVERNOR_LAG_SAMPLES_UP": "100000"},
            {
                "everything comes in its time",
                "the level rises through all five",
                "low trades are put off under load, and written afterwards",
                "normal trades are put off under load, and written afterwards",
                "high trades are put off under load, and written afterwards",
            },
        ),
        (
            ("chaos", "exchange"),
            {"K2_INGESTOR_HEAL": "false"},
            {
                "everything comes in its time",
                "what was left out is fetched by REST",
                "the certificate says so too",
                "no trade is missing, twice or another",
            },
        ),
    ],
    ids=["nothing is shed", "nothing is healed"],
)
def test_a_broken_promise_is_named_and_ends_with_1(
    home: Home, words: tuple[str, ...], variables: dict[str, str], broken: set[str]
) -> None:
    """K2 is made to break its word; data and logs stay for whoever looks into it."""
    answer = replace(home, variables=variables).k2(*words, timeout_s=RUN_TIMEOUT_S)
    events = events_of(answer)
    said = {event.says for event in events if not event.held}
    assert said >= broken, answer
    assert (answer.code, events[-1].event, events[-1].passed) == (PROMISE_BROKEN, "verdict", False)
    assert "Traceback" not in answer.said
    assert home.processes() == []
    assert "its data and logs stay" in answer.said


@pytest.mark.parametrize("form", ["json", "table"])
def test_a_reader_that_leaves_ends_the_run(home: Home, form: str) -> None:
    """`k2 chaos kill | head -1`: no verdict, so neither 0 nor 1; nothing stays."""
    question = f"{COMMAND} chaos kill -o {form} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", question],
        env=home.environment,
        cwd=home.folder,
        capture_output=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == READER_LEFT, done
    assert done.stdout.count(b"\n") == 1
    assert b"Traceback" not in done.stderr
    assert b"Broken pipe" not in done.stderr
    assert_nothing_is_left(home)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "levels by lag"),
        (signal.SIGTERM, "waits until trades flow"),
        (signal.SIGINT, "floods until"),
        (signal.SIGTERM, "waits for NORMAL"),
        (signal.SIGINT, "reads every trade back"),
    ],
)
def test_a_signal_leaves_nothing(home: Home, number: signal.Signals, moment: str) -> None:
    """At any moment: no process, no port, no folder, no traceback."""
    with home.started(*LAG) as run:
        run.until(moment)
        ports = home.listening()
        assert run.end(number) == INTERRUPTED
        assert "Traceback" not in run.text
    eventually_sync(lambda: not home.listening(), what=f"none of {ports} listens")
    assert_nothing_is_left(home)
