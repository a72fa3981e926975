"""A generated exchange that is started anew goes on with its session, not with another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.market.errors import CorruptError, InvalidError
from tools.simulator.generated import Plan
from tools.simulator.kept import MOST_TRADES_BEFORE, began_us

PLAN = Plan(seed=7, symbols=3, rate=500.0)
NOW_US = 1_790_000_000_000_000
MINUTE_US = 60_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exchange.json"


def test_a_session_goes_on_from_when_it_began(file: Path) -> None:
    """Whenever it is asked for again, and however often."""
    assert began_us(file, PLAN, NOW_US) == NOW_US
    assert began_us(file, PLAN, NOW_US + MINUTE_US) == NOW_US
    assert began_us(file, PLAN, NOW_US + 9 * MINUTE_US) == NOW_US


@pytest.mark.parametrize(
    "other", [replace(PLAN, seed=8), replace(PLAN, symbols=4), replace(PLAN, rate=600.0)]
)
def test_another_session_begins_now(file: Path, other: Plan) -> None:
    """And the file is that one's from then on."""
    began_us(file, PLAN, NOW_US)
    assert began_us(file, other, NOW_US + MINUTE_US) == NOW_US + MINUTE_US
    assert began_us(file, PLAN, NOW_US + 2 * MINUTE_US) == NOW_US + 2 * MINUTE_US


def test_a_session_with_too_much_behind_it_begins_anew(file: Path) -> None:
    """All of it would have to be generated again; so does one whose beginning is yet to come."""
    began_us(file, PLAN, NOW_US)
    longest_us = round(MOST_TRADES_BEFORE / PLAN.rate * 1e6)
    assert began_us(file, PLAN, NOW_US + longest_us) == NOW_US
    later_us = NOW_US + longest_us + MINUTE_US
    assert began_us(file, PLAN, later_us) == later_us
    assert began_us(file, PLAN, NOW_US) == NOW_US


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    """It names the file that cannot be kept."""
    with pytest.raises(InvalidError, match=r"none/exchange\.json cannot be kept: No such file"):
        began_us(tmp_path / "none" / "exchange.json", PLAN, NOW_US)


@pytest.mark.parametrize("text", ["", "{}", '{"seed": "7"}', "\x00"])
def test_a_file_that_says_nothing_is_one_sentence(file: Path, text: str) -> None:
    """It names the file and what to do."""
    file.write_text(text)
    with pytest.raises(CorruptError, match=r"exchange\.json .* remove it"):
        began_us(file, PLAN, NOW_US)
