"""What the live status says of the ingestor's troubles."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

import pytest
from rich.console import Console

from tools.cli.doors.watching import Flow
from tools.cli.views.panel import panel


def shown(flow: Flow, *, away: Sequence[str] = (), width: int = 140) -> str:
    screen = StringIO()
    status = panel(flow, title="k2", sent=None, expected=None, away=away)
    Console(width=width, file=screen).print(status)
    return screen.getvalue()


def test_what_was_missed_and_what_waits_is_shown_where_it_is() -> None:
    """Not a line of it while all is well."""
    quiet = shown(Flow(open_gaps=0, healed=0, spooled_bytes=0, not_taking=0))
    assert "level" in quiet
    assert not any(word in quiet for word in ("healed", "spooled", "intake"))
    troubled = shown(Flow(open_gaps=1, healed=1_234, spooled_bytes=3 * 2**20, not_taking=1))
    assert "1,234" in troubled
    assert "1 gap open" in troubled
    assert "3.0 MiB" in troubled
    assert "stopped" in troubled


def test_a_part_that_is_away_is_named_with_what_waits_for_it() -> None:
    """And why a writer does not commit, where one does not."""
    well = shown(Flow(partitions=16, taken_partitions=16))
    assert not any(word in well for word in ("away", "unread", "wait", "lack"))
    killed = shown(Flow(partitions=16, taken_partitions=8), away=["writer-1"])
    assert "writer-1" in killed
    assert "8 partitions" in killed
    stuck = shown(Flow(not_committing_because="the catalog does not answer"))
    assert "the catalog does not answer" in stuck
    lacking = shown(Flow(not_answering_all_because="the record batch at offset 7"))
    assert "offset 7" in lacking


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_line_fits_the_terminal(width: int) -> None:
    """Long reasons go on below, and no word of them is lost."""
    long = "k2-writer is 1,234,567 records behind (SOFT from 100,000), the log holds an hour of it"
    text = shown(Flow(level="SOFT", explanation=long), away=["writer-1", "query-1"], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in long.split())
