"""A session of an exchange that skipped some trade ids."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection
from pathlib import Path

from tools.simulator.record import write_session
from tools.simulator.session import Session


def never_issued(
    session: Session, path: Path, symbol: str, rows: Collection[int]
) -> set[tuple[str, int]]:
    """Record a session without these trades of a symbol, by position; returns their ids."""
    whole = path.with_suffix(".whole.gz")
    write_session(session, whole)
    absent: set[tuple[str, int]] = set()
    seen = 0
    with gzip.open(whole) as lines, gzip.open(path, "wb") as kept:
        for line in lines:
            trade = json.loads(line.split(b" ", 1)[1])["data"]
            is_absent = trade["s"] == symbol and seen in rows
            seen += trade["s"] == symbol
            if is_absent:
                absent.add((symbol, trade["t"]))
            else:
                kept.write(line)
    return absent
