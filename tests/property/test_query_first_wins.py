"""Whatever is sent again, shed, backfilled, imported or lost: no trade twice, none unnamed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.seam import TopicPartition
from libs.lake.completeness.evidence import Why
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.claims import claims_of
from libs.lake.ledger.ledger import (
    Account,
    Lost,
    Shed,
    closed,
    with_lost,
)
from services.query.asked import Selection
from services.query.completeness.certifying import Certifier
from services.query.keeper import Committed, Read, ReadShed, after_growth
from services.query.state import State
from services.query.tail.rows import rows_of
from services.query.tail.tail import lightened
from tests.support.claimed import (
    COLUMNS,
    IMPORTS,
    PARTITION,
    PARTITIONS,
    SYMBOLS,
    Record,
    Table,
    chunk,
    same,
)

STEPS = st.integers(1, 4)


class Answers(RuleBasedStateMachine):
    """A log, a writer that sheds, and a query service that may be ahead of it or behind."""

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, list[Record]] = {0: [], 1: []}
        self.begins = {0: 0, 1: 0}
        self.next_id = 1
        self.imported = 0
        self.table = Table()
        self.start()

    def start(self) -> None:
        self.seen = self.table
        self.state: State = after_growth(None, Committed(self.table.index(), None))
        self.position = {p: max(self.table.at(p), begin) for p, begin in self.begins.items()}
        spans = {p: (at, at) for p, at in self.position.items()}
        self.grow(Read(TRADES_BINANCE, None, spans, self.ends()))

    def ends(self) -> dict[int, int]:
        return {partition: len(records) for partition, records in self.log.items()}

    def grow(self, message: Committed | Read | ReadShed) -> None:
        self.state = after_growth(self.state, message)

    @rule(symbol=SYMBOLS, again=st.integers(0, 6), numbered=st.integers(0, 5), rows=STEPS)
    def produce(self, symbol: str, again: int, numbered: int, rows: int) -> None:
        """Send new trades, or ones that were sent before; one in six has no id."""
        partition = PARTITION[symbol]
        for _ in range(rows):
            known = again < 3 and self.next_id > 1
            number = max(1, self.next_id - 1 - again) if known else self.next_id
            self.next_id += not known
            records = self.log[partition]
            records.append(Record(symbol, number if numbered else None, partition, len(records)))

    @rule(partition=PARTITIONS, rows=STEPS)
    def read(self, partition: int, rows: int) -> None:
        start = self.position[partition]
        if start < self.begins[partition]:
            start = self.position[partition] = self.begins[partition]
        records = self.log[partition][start : start + rows]
        end = start + len(records)
        self.position[partition] = end
        self.grow(Read(TRADES_BINANCE, chunk(records), {partition: (start, end)}, self.ends()))

    @rule(partition=PARTITIONS, rows=STEPS, shed=st.sets(SYMBOLS))
    def commit(self, partition: int, rows: int, shed: set[str]) -> None:
        """Commit the next records, without those of the symbols that are shed."""
        start = self.table.at(partition)
        records = self.log[partition][start : start + rows]
        if not records or start < self.begins[partition]:
            return
        end = start + len(records)
        late = [record for record in records if record.symbol in shed]
        symbols = tuple(sorted({record.symbol for record in late}))
        account = Account(
            shed=(Shed(start, end, tuple(sorted(shed)), "v1", symbols, len(late), 1),)
            if late
            else ()
        )
        stored = [record for record in records if record.symbol not in shed]
        self.table = self.table.with_rows(stored, account, partition).moved(partition, end)

    @rule(partition=PARTITIONS, rows=STEPS, writer=st.booleans())
    def retention_overtakes(self, partition: int, rows: int, *, writer: bool) -> None:
        """The log forgets records; those the writer had not reached are recorded as lost."""
        at = self.table.at(partition) if writer else self.begins[partition]
        begin = min(at + rows, len(self.log[partition]))
        self.begins[partition] = begin = max(begin, self.begins[partition])
        start = self.table.at(partition)
        if start < begin:
            position = TopicPartition(TRADES_BINANCE, partition)
            ledger = with_lost(self.table.ledger, position, [Lost(start, begin, 1)])
            self.table = replace(self.table, ledger=ledger).moved(partition, begin)

    @rule(partition=PARTITIONS, choice=st.integers(0, 3), part=st.integers(1, 4))
    def backfill(self, partition: int, choice: int, part: int) -> None:
        """Store a part of an open range, and close it; what the log no longer has is lost."""
        position = TopicPartition(TRADES_BINANCE, partition)
        ranges = self.table.ledger.book(position).shed
        if not ranges:
            return
        shed = ranges[choice % len(ranges)]
        start, end = shed.start, min(shed.end, shed.start + part)
        begin = self.begins[partition]
        records = [
            record
            for record in self.log[partition][max(start, begin) : end]
            if record.symbol in shed.symbols
        ]
        self.table = self.table.with_rows(records, Account(), partition)
        ledger = closed(self.table.ledger, position, start, end)
        if start < begin:
            lost = Lost(start, min(begin, end), 1, shed.symbols)
            ledger = with_lost(ledger, position, [lost])
        self.table = replace(self.table, ledger=ledger)

    @precondition(lambda self: self.next_id > 1)
    @rule(symbol=SYMBOLS, back=st.integers(0, 8))
    def import_one(self, symbol: str, back: int) -> None:
        """Commit a trade from elsewhere, which the log may have too."""
        number = max(1, self.next_id - 1 - back)
        record = Record(symbol, number, 0, self.imported, IMPORTS)
        self.imported += 1
        table = self.table.with_rows([record], Account(), 0)
        self.table = table.moved(0, self.imported, IMPORTS)

    @rule()
    def see_head(self) -> None:
        self.seen = self.table
        self.grow(Committed(self.table.index(), None))

    @rule(chunks=st.integers(0, 2))
    def hold_less(self, chunks: int) -> None:
        """Let the oldest of what is held go."""
        held = self.state.tail.held
        held_bytes = sum(chunk.bytes for chunk in held[min(chunks, len(held)) :])
        tail = lightened(self.state.tail, self.state.seam, held_bytes=held_bytes)
        self.state = self.state.grown(tail, self.state.log_ends)

    @rule()
    def restart(self) -> None:
        self.start()

    @rule(partition=PARTITIONS, start=st.integers(0, 8), rows=STEPS)
    def read_shed_rows(self, partition: int, start: int, rows: int) -> None:
        """Read a stretch of the log back."""
        begin = max(start, self.begins[partition])
        records = self.log[partition][begin : begin + rows]
        end = min(begin + rows, len(self.log[partition]))
        if begin < end:
            self.grow(ReadShed(TRADES_BINANCE, chunk(records), {partition: (begin, end)}))

    def answer(self) -> list[Record]:
        batches = rows_of(self.state.tail, Selection(), COLUMNS)
        rows = [
            Record(
                row["symbol"],
                row["source_sequence"],
                row["kafka_partition"],
                row["kafka_offset"],
                row["kafka_topic"],
            )
            for batch in batches
            for row in batch.to_pylist()
        ]
        return [*self.seen.stored, *rows]

    def named(self) -> set[tuple[str, int, int]]:
        """Return the positions that the answer says it lacks."""
        return {
            (*lack.position, at)
            for lack in Certifier().verdict(self.state, Scope()).lacks
            if lack.position and lack.offsets and lack.why is not Why.DEAD_LETTER
            for at in range(*lack.offsets)
        }

    @invariant()
    def no_trade_shows_twice(self) -> None:
        shown = [same(record) for record in self.answer()]
        assert len(shown) == len(set(shown))

    @invariant()
    def no_trade_is_missing_unnamed(self) -> None:
        shown = {same(record) for record in self.answer()}
        named = self.named()
        for partition, records in self.log.items():
            high = self.state.high.get(TRADES_BINANCE, {}).get(partition, 0)
            for record in records[:high]:
                at = (TRADES_BINANCE, partition, record.offset)
                assert same(record) in shown or at in named, record

    @invariant()
    def ids_are_those_of_the_rows(self) -> None:
        tail = self.state.tail
        batches = [chunk.batch for chunk in tail.answering]
        expected = claims_of(pa.Table.from_batches(batches)) if batches else {}
        assert expected == tail.ids


Answers.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestAnswers = Answers.TestCase


WEIGHTS = {
    "produce": 5,
    "read": 5,
    "commit": 4,
    "see_head": 4,
    "backfill": 3,
    "import_one": 2,
    "read_shed_rows": 1,
    "retention_overtakes": 1,
    "restart": 0.3,
    "hold_less": 0.3,
}


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.integers(0, 2**32))
def test_long_runs_stay_whole(seed: int) -> None:
    """Hypothesis leaves most rules out of a run; here all of them meet in long ones."""
    draw, machine = random.Random(seed), Answers()
    for _ in range(60):
        [name] = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
        step(machine, name, draw)
        machine.no_trade_shows_twice()
        machine.no_trade_is_missing_unnamed()
        machine.ids_are_those_of_the_rows()


def step(machine: Answers, name: str, draw: random.Random) -> None:
    symbol, partition, rows = draw.choice("ABC"), draw.choice([0, 1]), draw.randint(1, 4)
    shed = {name for name in "ABC" if draw.random() < 0.3}
    steps: dict[str, Callable[[], None]] = {
        "produce": lambda: machine.produce(symbol, draw.randint(0, 6), draw.randint(0, 5), rows),
        "read": lambda: machine.read(partition, rows),
        "commit": lambda: machine.commit(partition, rows, shed),
        "see_head": machine.see_head,
        "backfill": lambda: machine.backfill(partition, draw.randint(0, 3), rows),
        "import_one": lambda: machine.import_one(symbol, draw.randint(0, 8)),
        "read_shed_rows": lambda: machine.read_shed_rows(partition, draw.randint(0, 30), rows),
        "retention_overtakes": lambda: machine.retention_overtakes(
            partition, 1, writer=draw.random() < 0.5
        ),
        "restart": machine.restart,
        "hold_less": lambda: machine.hold_less(draw.randint(0, 2)),
    }
    if name != "import_one" or machine.next_id > 1:
        steps[name]()
