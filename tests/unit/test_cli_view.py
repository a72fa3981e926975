"""What the live status says of the ingestor's troubles."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from tools.cli.doors.watching import Flow
from tools.cli.views.panel import panel


def shown(flow: Flow) -> str:
    screen = StringIO()
    Console(width=140, file=screen).print(panel(flow, title="k2", sent=None, expected=None))
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
