"""Every question of the `k2` command against a K2 that is up."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from libs.runtime.doors import find
from tests.support.cli import COMMAND, START_TIMEOUT_S, Home
from tests.support.polling import eventually_sync
from tests.support.simulator import simulator_process
from tools.cli.views.tables import plain_decimal

USAGE, NOT_FOUND, NOT_COMPLETE = 2, 4, 6
ALL = ("--limit", "0", "--oldest-first")
QUESTIONS = (
    ("trades", "BTCUSDT"),
    ("bars", "BTCUSDT"),
    ("symbols",),
    ("snapshots",),
    ("completeness", "BTCUSDT"),
    ("governor", "state"),
    ("governor", "explain"),
    ("status",),
)
COMPARED = ["trade_id", "price", "quantity"]
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def until(k2_up: Home) -> str:
    """Give a time before which no more trades of BTCUSDT will come: that of one already there."""
    return str(
        json.loads(k2_up.k2("trades", "BTCUSDT", "-n", "1", "-o", "json").output)["timestamp"]
    )


def as_text(rows: Iterable[Mapping[str, object]]) -> Rows:
    return [{name: str(row[name]) for name in COMPARED} for row in rows]


def read_json(data: bytes) -> Rows:
    return as_text([json.loads(line) for line in data.splitlines()])


def read_csv(data: bytes) -> Rows:
    return as_text([dict(row) for row in csv.DictReader(io.StringIO(data.decode()))])


def read_parquet(data: bytes) -> Rows:
    return from_arrow(pq.read_table(pa.BufferReader(data)))


def read_arrow(data: bytes) -> Rows:
    return from_arrow(pa.ipc.open_stream(data).read_all())


def from_arrow(table: pa.Table) -> Rows:
    """Return decimals as the text formats have them."""
    rows = as_text(table.select(COMPARED).to_pylist())
    return [
        {**row, **{name: plain_decimal(Decimal(row[name])) for name in ("price", "quantity")}}
        for row in rows
    ]


READERS = {"json": read_json, "csv": read_csv, "parquet": read_parquet, "arrow": read_arrow}


def test_every_format_has_the_same_rows(k2_up: Home, until: str, tmp_path: Path) -> None:
    """To a pipe and to a file, whose ending says the format; rows, order and digits are equal."""
    question = ("trades", "BTCUSDT", "--to", until, *ALL)
    answers = {}
    for form, read in READERS.items():
        piped = k2_up.k2(*question, "-o", form)
        assert piped.code == 0, piped
        answers[form, "pipe"] = read(piped.output)
        file = tmp_path / f"btc.{form}"
        assert k2_up.k2(*question, "--file", str(file)).code == 0
        answers[form, "file"] = read(file.read_bytes())
    wanted = answers["json", "pipe"]
    assert len(wanted) > 20, "--limit 0 is all of them, not the default"
    assert all(rows == wanted for rows in answers.values())
    assert [path.suffix.removeprefix(".") for path in sorted(tmp_path.iterdir())] == sorted(READERS)


def test_a_table_is_for_people(k2_up: Home) -> None:
    """The newest rows first, as many as asked for, and on stderr what they come from."""
    answer = k2_up.k2("trades", "BTCUSDT", "-n", "5", "-o", "table")
    assert answer.text.count("BTCUSDT") == 5
    assert "5 rows" in answer.said
    assert "complete" in answer.said


@pytest.mark.parametrize("words", QUESTIONS)
def test_every_question_has_an_answer(k2_up: Home, words: tuple[str, ...]) -> None:
    """As a table, and as JSON where every line is an object."""
    table = k2_up.k2(*words, "-o", "table")
    assert (table.code, bool(table.text)) == (0, True), table
    lines = k2_up.k2(*words, "-o", "json").text.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_status_has_rates_without_noise(k2_up: Home) -> None:
    """A tenth of a trade a second is more than anybody reads."""
    said = json.loads(k2_up.k2("status", "-o", "json").output)
    rate = said["received_per_second"]
    assert rate == round(rate, 1)


def test_symbols_can_be_limited(k2_up: Home) -> None:
    """The first so many of them."""
    every = k2_up.k2("symbols", "-o", "json").text.splitlines()
    assert len(every) == 3
    some = k2_up.k2("symbols", "-n", "2", "-o", "json").text.splitlines()
    names = [[json.loads(line)["symbol"] for line in lines] for lines in (every, some)]
    assert names[1] == names[0][:2]


@pytest.mark.parametrize("words", [("bars", "BTCUSDT"), ("symbols",), ("snapshots",)])
def test_short_answers_can_be_files_too(
    k2_up: Home, words: tuple[str, ...], tmp_path: Path
) -> None:
    """A Parquet file with the columns that JSON has."""
    file = tmp_path / "answer.parquet"
    assert k2_up.k2(*words, "-f", str(file)).code == 0
    columns = json.loads(k2_up.k2(*words, "-o", "json").text.splitlines()[0]).keys()
    assert pq.read_table(file).column_names == list(columns)


def test_limit_0_is_all_everywhere(k2_up: Home) -> None:
    """Snapshots and bars by the rule of trades."""
    eventually_sync(lambda: len(json_lines(k2_up, "snapshots", "-n", "0")) > 2, 30)
    assert len(json_lines(k2_up, "snapshots", "-n", "1")) == 1
    assert len(json_lines(k2_up, "bars", "BTCUSDT", "--interval", "1s", "-n", "0")) > len(
        json_lines(k2_up, "bars", "BTCUSDT", "--interval", "1s", "-n", "1")
    )


def json_lines(home: Home, *words: str) -> list[str]:
    return home.k2(*words, "-o", "json").text.splitlines()


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("trades", "BTCUSDT", "--from", "2026-01-02", "--to", "2026-01-01"), USAGE, "end_time"),
        (("trades", "BTCUSDT", "--columns", "prize"), USAGE, "prize"),
        (("trades", "BTCUSDT", "--limit", "-1"), USAGE, "limit"),
        (("trades", "BTCUSDT", "--snapshot-id", "1"), NOT_FOUND, "ListSnapshots"),
        (("bars", "BTCUSDT", "--limit", "-1"), USAGE, "limit"),
        (("trades", "BTCUSDT", "--file", "no/folder/btc.csv"), USAGE, "no/folder"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(
    k2_up: Home, words: tuple[str, ...], code: int, hint: str
) -> None:
    """By exit code and in a sentence that names what to change."""
    answer = k2_up.k2(*words)
    assert (answer.code, answer.output) == (code, b""), answer
    assert hint in answer.said
    assert "Traceback" not in answer.said


@pytest.mark.parametrize(
    ("question", "symbol", "code", "hint"),
    [
        ("trades", "QQQ", NOT_FOUND, "k2 symbols"),
        ("trades", "btcusdt", NOT_FOUND, "did you mean BTCUSDT?"),
        ("bars", "BTCUSD", NOT_FOUND, "did you mean BTCUSDT"),
        ("trades", "", USAGE, "name a symbol"),
    ],
)
def test_an_unknown_symbol_is_said_to_be_unknown(
    k2_up: Home, question: str, symbol: str, code: int, hint: str
) -> None:
    """Not an empty and complete answer: nothing is known of it, or it is spelt another way."""
    answer = k2_up.k2(question, symbol, "-o", "json")
    assert (answer.code, answer.output) == (code, b""), answer
    assert hint in answer.said


def test_a_known_symbol_without_trades_in_a_time_has_no_rows(k2_up: Home) -> None:
    """That is an answer: code 0."""
    answer = k2_up.k2("trades", "BTCUSDT", "--to", "2001-01-01", "-o", "json")
    assert (answer.code, answer.output) == (0, b""), answer


def test_what_is_missing_has_an_exit_code_of_its_own(k2_up: Home) -> None:
    """Ids asked for that are not held are named; a symbol nobody traded is not found."""
    (held,) = certificate(k2_up, "BTCUSDT")["series"]
    first = int(held["held"][0]["first_id"])
    ids = ("--first-id", str(first - 5), "--last-id", str(first))
    answer = k2_up.k2("completeness", "BTCUSDT", *ids, "-o", "csv")
    (hole,) = csv.DictReader(io.StringIO(answer.text))
    assert (answer.code, hole["reason"]) == (NOT_COMPLETE, "GAP")
    assert (int(hole["first_id"]), int(hole["last_id"])) == (first - 5, first - 1)
    told = k2_up.k2("completeness", "BTCUSDT", *ids, "-o", "table")
    assert f"ids {first - 5} to {first - 1} (5)" in told.text
    assert k2_up.k2("completeness", "NOSUCHTHING").code == NOT_FOUND


def certificate(home: Home, symbol: str) -> Any:
    return json.loads(home.k2("completeness", symbol, "-o", "json").output)


def test_a_reader_that_goes_away_is_no_error(k2_up: Home) -> None:
    """`k2 trades | head -1` ends without a word."""
    question = f"{COMMAND} trades BTCUSDT --limit 0 -o json | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", question],
        env=k2_up.environment,
        cwd=k2_up.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.count(b"\n") == 1
    assert b"Traceback" not in done.stderr
    assert b"Broken pipe" not in done.stderr


def test_a_damaged_address_file_is_named_and_passed_over(k2_up: Home) -> None:
    """Status shows the rest."""
    file = k2_up.root / "up" / "run" / "other.json"
    file.write_text("garbage")
    try:
        answer = k2_up.k2("status", "-o", "json")
    finally:
        file.unlink()
    assert (answer.code, answer.said.count("\n")) == (0, 1), answer
    assert f"{file} is not an address file" in answer.said
    assert json.loads(answer.output)["committed_rows"] is not None


def test_a_question_waits_for_a_service_that_starts_again(k2_up: Home) -> None:
    """It is not told that nothing runs: `k2 up` brings the service back, and it answers."""
    killed = find(k2_up.root / "up" / "run")["query-1"]
    os.kill(killed.pid, signal.SIGKILL)
    eventually_sync(lambda: not killed.open, what="the query service is dead")
    answer = k2_up.k2("trades", "BTCUSDT", "-n", "1", "-o", "json", timeout_s=START_TIMEOUT_S)
    assert (answer.code, answer.output.count(b"\n")) == (0, 1), answer
    assert find(k2_up.root / "up" / "run")["query-1"].pid != killed.pid


@pytest.mark.parametrize("form", ["table", "json"])
def test_tail_follows_until_ctrl_c(k2_up: Home, form: str) -> None:
    """New trades appear by themselves; Ctrl-C ends it with 130 and no traceback."""
    with following(k2_up, "tail", "BTCUSDT", "-n", "2", "-o", form) as tail:
        assert tail.stdout is not None
        lines = [tail.stdout.readline() for _ in range(6)]
        tail.send_signal(signal.SIGINT)
        _, said = tail.communicate(timeout=60)
    assert all(b"BTCUSDT" in line for line in lines)
    assert (tail.returncode, said) == (130, b"")


def following(home: Home, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [COMMAND, *words],
        env={**home.environment, "PYTHONUNBUFFERED": "1"},
        cwd=home.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_a_recording_replays_byte_equal(home: Home) -> None:
    """What `k2 record` heard is what the exchange played, message by message."""
    session, recorded = home.folder / "session.gz", home.folder / "heard.gz"
    length = ("--duration", "2", "--symbols", "1", "--rate", "200", "--seed", "3")
    assert home.k2("simulate", *length, "--write", str(session)).code == 0
    replay = ("--recording", str(session), "--pace", "max", "--hold", "missing")
    async with simulator_process(*replay) as exchange:
        words = ("record", "BTCUSDT", "--out", str(recorded), "--url", exchange.websocket_url)
        with home.started(*words) as recording:
            eventually_sync(lambda: heard(recorded) == messages(session), what="all is recorded")
            assert recording.end(signal.SIGINT) == 0
        again = home.k2(*words)
    assert messages(recorded) == messages(session)
    assert (again.code, again.said.count("\n")) == (5, 1)
    assert "name another file" in again.said


def heard(file: Path) -> list[bytes]:
    """Read a recording that is being written."""
    with suppress(FileNotFoundError, EOFError):
        return messages(file)
    return []


def messages(file: Path) -> list[bytes]:
    with gzip.open(file) as lines:
        return [line.split(b" ", 1)[1] for line in lines]


def test_simulate_serves_its_page(home: Home) -> None:
    """Its first line is its address, and there is a page for people."""
    with home.started("simulate", "--port", "0") as exchange:
        exchange.until("http://")
        url = next(word for word in exchange.text.split() if word.startswith("http://"))
        with urllib.request.urlopen(url, timeout=60) as page:
            assert b"<html" in page.read()
        assert exchange.end(signal.SIGINT) == 0
