"""A service says where it decodes without what is compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs.native import library
from libs.native.library import warn_where_nothing_is_compiled


def test_it_says_where_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that changed without a new set-up, or no compiler: the results are the same."""
    monkeypatch.setattr(library, "compiled_path", lambda: tmp_path / "none.so")
    library.loaded.cache_clear()

    with capture_logs() as logged:
        warn_where_nothing_is_compiled(costs="a quarter more CPU a row")

    library.loaded.cache_clear()
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [
        ("nothing_compiled", "warning")
    ]


def test_it_is_silent_where_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to say."""
    monkeypatch.setattr(library, "loaded", object)

    with capture_logs() as logged:
        warn_where_nothing_is_compiled(costs="a quarter more CPU a row")

    assert logged == []
