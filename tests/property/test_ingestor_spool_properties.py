"""Whatever happens to the spool, what comes out is what went in, in order, or named as torn."""

from __future__ import annotations

import shutil
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.ingestor.delivering.records import Records
from services.ingestor.spool.spool import Spool, SpoolFullError
from tests.support.clock import ManualClock

MOST_BYTES, SEGMENT_BYTES = 6_000, 700
SYMBOL = "BTCUSDT"


class SpoolMachine(RuleBasedStateMachine):
    """A spool beside a list of what must still come out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.clock = ManualClock()
        self.numbers = count(1)
        self.runs = count(1)
        # Batches that were appended; each comes out whole or not at all.
        self.expected: list[list[int]] = []
        self.spool = self.opened(self.folder / "0")

    def opened(self, folder: Path) -> Spool:
        spool = Spool(folder, MOST_BYTES, self.clock, segment_bytes=SEGMENT_BYTES)
        self.found = spool.open()
        return spool

    @rule(rows=st.integers(1, 9), width=st.integers(1, 120))
    def append(self, rows: int, width: int) -> None:
        ids = [next(self.numbers) for _ in range(rows)]
        values = [str(id_).encode().ljust(width) for id_ in ids]
        records = Records("trades", 0, [SYMBOL.encode()] * rows, values, (), np.array(ids))
        try:
            self.spool.append([records])
        except SpoolFullError:
            return
        self.expected.append(ids)

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(forget=st.booleans())
    def take(self, forget: bool) -> None:
        taken = self.spool.take()
        if taken is None:
            assert not self.expected
            return
        segment, records = taken
        batches = [[int(value) for value in one.values] for one in records]
        assert batches == self.expected[: len(batches)]
        if forget:
            self.spool.forget(segment)
            del self.expected[: len(batches)]

    @rule(torn_bytes=st.integers(0, 200))
    def crash(self, torn_bytes: int) -> None:
        """Go on with what a killed process leaves, the end of its last file cut off."""
        after = self.folder / str(next(self.runs))
        shutil.copytree(self.spool.folder, after, ignore=shutil.ignore_patterns("lock"))
        self.spool.close()
        files = sorted(after.glob("*.spool"))
        if files:
            content = files[-1].read_bytes()
            files[-1].write_bytes(content[: len(content) - torn_bytes])
        self.spool = self.opened(after)
        kept = sum(last - first + 1 for _, first, last in self.found.runs)
        while sum(map(len, self.expected)) > kept:
            self.expected.pop()
        assert sum(map(len, self.expected)) == kept == self.found.records

    @invariant()
    def what_waits_is_what_is_expected(self) -> None:
        assert self.spool.records == sum(map(len, self.expected))
        assert self.spool.size_bytes <= MOST_BYTES

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
