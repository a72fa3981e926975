"""What `k2 up` says of a child that does not come up: the child's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.cli.parts.children import last_complaint, last_words

PLACED = '{"event": "placed", "level": "info", "why": "assigned"}'
MISSING = '{"event": "not_placed", "level": "warning", "why": "the ledger x.json is gone: restore"}'
FAILED = '{"event": "failed", "level": "error", "error": "no Kafka at 127.0.0.1:9"}'


@pytest.mark.parametrize(
    ("lines", "words", "complaint"),
    [
        ([], "it said nothing", ""),
        ([PLACED, ""], "placed", ""),
        ([FAILED], "no Kafka at 127.0.0.1:9", "no Kafka at 127.0.0.1:9"),
        ([MISSING, PLACED], "placed", "the ledger x.json is gone: restore"),
        ([MISSING, FAILED, PLACED], "placed", "no Kafka at 127.0.0.1:9"),
        (["Traceback", "KeyError: 7"], "KeyError: 7", ""),
        ([MISSING, "[1, 2]"], "[1, 2]", "the ledger x.json is gone: restore"),
    ],
)
def test_last_words_and_last_complaint(
    tmp_path: Path, lines: list[str], words: str, complaint: str
) -> None:
    """A process that ended said why in the end; one that lives has warned of it before."""
    log = tmp_path / "writer-1.log"
    log.write_text("\n".join(lines))
    assert (last_words(log), last_complaint(log)) == (words, complaint)


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    """The child may not have come so far."""
    assert last_words(tmp_path / "none.log") == "it said nothing"
    assert last_complaint(tmp_path / "none.log") == ""
