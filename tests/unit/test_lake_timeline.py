"""Where the seam stood at a time, for as long as the table lives."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from libs.lake.commits.seam import Seam
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger, with_line
from libs.lake.ledger.store import files_of, read, seam_at_time, write
from libs.lake.ledger.timeline import HOUR_US, MINUTE_US, NO_LINES, Line, add_line, offsets_at
from libs.market.trade import DAY_US
from tests.support.lake import TOPIC

IO = PyArrowFileIO()
# Ten days before a period of 30 ends.
START_US = 20_000 * DAY_US


def seam(offset: int) -> Seam:
    return {TOPIC: {0: offset}}


def test_seam_of_a_time_is_that_of_the_minute_before() -> None:
    """The last commit of a minute stands for it; the minute of the time itself may still move."""
    lines = NO_LINES
    for second, offset in ((5, 1), (55, 2), (65, 3), (200, 4)):
        lines = add_line(lines, START_US + second * 1_000_000, seam(offset))
    assert [line.offsets for line in lines.open] == [seam(2), seam(3), seam(4)]

    def asked(second: int) -> Seam:
        return offsets_at(lines.open, START_US + second * 1_000_000)

    assert asked(59) == {}
    assert asked(60) == asked(119) == seam(2)
    assert asked(120) == asked(239) == seam(3)
    assert asked(240) == asked(10**6) == seam(4)


def test_answer_of_a_past_minute_never_changes() -> None:
    """Whatever is committed later."""
    lines = NO_LINES
    answers: dict[int, Seam] = {}
    for n in range(40):
        time_us = START_US + n * 17_000_000
        lines = add_line(lines, time_us, seam(n))
        answers.setdefault(time_us, offsets_at(lines.open, time_us))
    assert answers == {time_us: offsets_at(lines.open, time_us) for time_us in answers}


@pytest.fixture(scope="module")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ledger, list[Line]]:
    """A table with a commit every ten minutes for 42 days, its ledger written every few hours."""
    folder = tmp_path_factory.mktemp("ledgers")
    ledger, every = EMPTY_LEDGER, []
    for n in range(42 * 144):
        line = Line(START_US + n * 10 * MINUTE_US, seam(n))
        every.append(line)
        ledger = with_line(ledger, line.time_us, line.offsets)
        if n % 54 == 53:
            ledger = read(IO, write(IO, str(folder), ledger))
    return folder, ledger, every


def test_old_lines_leave_the_ledger(long_lived: tuple[Path, Ledger, list[Line]]) -> None:
    """An hour in the ledger, a file for each hour of the day, one a day, then one for 30 days."""
    _, ledger, _ = long_lived
    assert len(ledger.lines.open) <= 6
    assert len(ledger.lines.chunks) < 24 + 33 + 2
    assert sum(chunk.thinned for chunk in ledger.lines.chunks) == 1
    assert len(files_of(ledger, "")) == len(ledger.lines.chunks)


@pytest.mark.parametrize(("day", "step_us"), [(0, HOUR_US), (5, HOUR_US), (20, 0)])
def test_old_times_are_answered_from_files(
    long_lived: tuple[Path, Ledger, list[Line]], day: int, step_us: int
) -> None:
    """To the minute; where all of a file is older than 30 days, never more than an hour off."""
    _, ledger, every = long_lived
    for at in range(0, 24 * 60, 7):
        time_us = START_US + day * DAY_US + at * MINUTE_US
        found = seam_at_time(IO, ledger.lines, time_us)
        earliest = offsets_at(every, time_us - step_us)
        assert reached(earliest) <= reached(found) <= reached(offsets_at(every, time_us))


def reached(found: Seam) -> int:
    return found.get(TOPIC, {}).get(0, -1)


def test_time_before_the_first_commit_has_nothing(
    long_lived: tuple[Path, Ledger, list[Line]],
) -> None:
    """An empty table is what there was."""
    _, ledger, _ = long_lived
    assert seam_at_time(IO, ledger.lines, START_US - DAY_US) == {}
