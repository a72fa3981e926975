"""What `k2` says before it asks anybody, in this process: exit code and one sentence."""

from __future__ import annotations

import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

from tools.cli.application import application, run
from tools.cli.exit_codes import OTHER_FAILURE

USAGE, NOT_RUNNING = 2, 3
QUESTIONS = (
    ("trades", "BTCUSDT"),
    ("bars", "BTCUSDT"),
    ("tail",),
    ("symbols",),
    ("snapshots",),
    ("governor", "state"),
    ("maintenance", "status"),
    ("maintenance", "plan"),
    ("backfill", "status"),
    ("dlq", "list"),
    ("dlq", "resume"),
    ("status",),
)


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(words: tuple[str, ...]) -> int:
    with pytest.raises(SystemExit) as end:
        run(words)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_help_breaks_no_line_but_where_the_terminal_ends() -> None:
    """A line break within a paragraph of a docstring would be shown as one."""
    apps = [application(())]
    for app in apps:
        apps += [group.typer_instance for group in app.registered_groups if group.typer_instance]
    said = [c.help or getdoc(c.callback) or "" for app in apps for c in app.registered_commands]
    assert len(said) > len(QUESTIONS)
    assert [text for text in said if "\n" in text.replace("\n\n", "")] == []


def test_help_that_is_read_by_head_is_done_like_any_other() -> None:
    """`k2 chaos --help | head -1`: only a run of it ends as unknown where its reader leaves."""
    piped = f"{sys.executable} -m tools.cli chaos --help | head -0"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", piped], check=False, timeout=60)
    assert done.returncode == 0


def test_a_full_disk_is_one_sentence() -> None:
    """Nothing is written twice, and no traceback."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tools.cli", "chaos", "--help"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (OTHER_FAILURE, 1)
    assert b"no space" in done.stderr


@pytest.mark.parametrize("words", QUESTIONS)
def test_where_nothing_runs_it_says_how_to_start(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, one line, and the command to give next."""
    assert ended(words) == NOT_RUNNING
    answer = capsys.readouterr()
    assert (answer.out, answer.err.count("\n")) == ("", 1)
    assert "k2 up" in answer.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("trades", "BTCUSDT", "--from", "yesterday"), "--from"),
        (("trades", "BTCUSDT", "--as-of", "soon"), "--as-of"),
        (("trades", "BTCUSDT", "--file", "btc.xlsx"), "--output"),
        (("trades", "BTCUSDT", "--snapshot-id", "1", "--as-of", "2026-01-01"), "not both"),
        (("trades",), "symbol"),
        (("trades", "BTCUSDT", "--colour"), "--colour"),
        (("bars", "BTCUSDT", "--interval", "7m"), "1m"),
        (("tail", "-o", "parquet"), "json"),
        (("demo", "--pace", "fast"), "max"),
        (("demo", "--duration", "0"), "--duration"),
        (("demo", "--recording", "not-there.gz"), "not-there.gz"),
        (("demo", "--fault", "explode"), "malformed"),
        (("up", "--recording", "not-there.gz"), "not-there.gz"),
        (("record", "BTCUSDT", "--out", "a.gz", "--streams", "trades"), "bookTicker"),
        (("record", "BTCUSDT", "--out", "not-there/a.gz"), "folder that is there"),
        (("chaos", "flood"), "flood"),
        (("chaos", "lag", "--scale", "0"), "--scale"),
        (("chaos", "memory", "--limit-mib", "100"), "--limit-mib"),
        (("chaos", "kill", "--output", "csv"), "table or json"),
        (("tail", "--output", "parquet"), "table or json"),
        (("trades", "BTCUSDT", "--output", "table", "--file", "a.txt"), "--file"),
        (("trades", "BTCUSDT", "-n", str(10**22)), "2147483647"),
        (("completeness", "BTCUSDT", "--first-id", str(10**22)), "--first-id"),
        (("up", "--live", ""), "--live"),
        (("record", "BTCUSDT", "--out", "a.gz", "--url", "http://nowhere"), "ws://"),
        (("demo", "degradation", "--fast"), "--fast"),
        (("dlq", "replay"), "--all"),
        (("dlq", "replay", "a/0/1", "--all"), "--reason"),
        (("dlq", "resume", "--partition", "3"), "--topic"),
        (("tradez",), "trades"),
    ],
)
def test_wrong_usage_is_told_what_is_wrong(
    words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str], empty_home: Path
) -> None:
    """Exit code 2, what to change on stderr, and nothing written."""
    assert ended(words) == USAGE
    answer = capsys.readouterr()
    assert answer.out == ""
    assert hint in answer.err
    assert not [path for path in empty_home.rglob("*") if path.is_file()]


def test_a_kafka_of_somebody_else_is_never_harmed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a chaos run kills is its own."""
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP", "kafka.example:9092")
    assert ended(("chaos", "broker")) == USAGE
    assert "K2_KAFKA_BOOTSTRAP" in capsys.readouterr().err


def test_down_where_nothing_is_up_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked for is so already."""
    assert ended(("down",)) == 0
    assert capsys.readouterr().out == "K2 is not up\n"


@pytest.mark.parametrize("words", [("--help",), ("trades", "--help"), ("governor", "--help")])
def test_help_is_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """It names what there is, and ends with 0."""
    assert ended(words) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("K2_KAFKA_BOOTSTRAPS", "did you mean K2_KAFKA_BOOTSTRAP?"),
        ("K2_WRITER_FLUSH_AFTER", "did you mean K2_WRITER_FLUSH_AFTER_"),
        ("K2_SOMETHING_ELSE_ENTIRELY", "K2_SOMETHING_ELSE_ENTIRELY is not a variable of K2"),
    ],
)
def test_an_unknown_variable_is_refused(
    variable: str, hint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the services it would start, and with the known one that is meant."""
    monkeypatch.setenv(variable, "1")
    assert ended(("up",)) == USAGE
    answer = capsys.readouterr()
    assert (answer.out, answer.err.count("\n")) == ("", 1)
    assert hint in answer.err
    assert ended(("up", "--help")) == 0


def test_variables_of_every_service_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets one for `k2 up` means the service it belongs to."""
    for name in ("K2_WRITER_FLUSH_AFTER_S", "K2_QUERY_TIMEOUT_S", "K2_INGESTOR_SYMBOLS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("K2_QUERY_ADDRESS", "127.0.0.1:1")
    assert ended(("down",)) == 0


@pytest.mark.parametrize(("command", "code"), [("status", 0), ("demo", 1)])
def test_a_table_cut_short_by_its_reader_is_done(
    command: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich says 1 of it; of a run that has come to nothing yet that stands."""

    def cut_short(_: tuple[str, ...]) -> None:
        try:
            raise BrokenPipeError  # noqa: TRY301 (as rich does it)
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904

    monkeypatch.setattr("tools.cli.application.application", lambda _: cut_short)
    assert ended((command,)) == code
