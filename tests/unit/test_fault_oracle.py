"""The oracle of the fault tests: sound evidence passes, and each kind of wrong is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from libs.lake.commits.seam import TopicPartition
from libs.lake.ledger.coverage import Ids, Series
from libs.lake.ledger.ledger import Dead, Ledger, Lost, PartitionBook, Shed
from tests.support.oracle import (
    LETTERS,
    LOGGED,
    STORED,
    Evidence,
    SnapshotSeen,
    assert_sound,
    rows_of,
    tally,
    undrained,
    violations,
)

TOPIC = "market.crypto.trades.binance"
PLACE = TopicPartition(TOPIC, 3)
BTC = Series("BINANCE", "CRYPTO", "BTCUSDT", 0)
LOW = "DOGEUSDT"
FIRST_US = 1_723_107_600_000_000

Row = tuple[object, ...]


def trade(offset: int, id_: int, *, symbol: str = "BTCUSDT", price: str = "") -> Row:
    """Return what the log has at an offset."""
    price = price or f"{60_000 + id_}.5"
    said = (str(id_), Decimal(price), Decimal("0.25"), "BUY", FIRST_US + id_)
    return (TOPIC, 3, offset, symbol, "BINANCE", "CRYPTO", symbol, 0, id_, *said)


def junk(offset: int) -> Row:
    return (TOPIC, 3, offset, "BTCUSDT", *[None] * 10)


# Offsets 0-3 stored, 4 a re-send of 1, 5 junk, 6 shed, 7 stored in a shed range, 8-9 lost.
LOG = [
    *[trade(offset, offset) for offset in range(4)],
    trade(4, 1),
    junk(5),
    trade(6, 900, symbol=LOW),
    trade(7, 7),
    trade(8, 8),
    trade(9, 9),
]
AT_US = FIRST_US
BOOK = PartitionBook(
    shed=(Shed(6, 8, ("low",), "1", (LOW,), 1, AT_US),),
    dead=(Dead(5, 6, "", "FRAMING", AT_US),),
    lost=(Lost(8, 10, AT_US),),
)
COVERAGE = {BTC: (Ids(0, 3, FIRST_US, FIRST_US + 3), Ids(7, 7, FIRST_US + 7, FIRST_US + 7))}


def seen(number: int, offset: int) -> SnapshotSeen:
    return SnapshotSeen(number, 1_000 + number, {TOPIC: {3: offset}})


SOUND = Evidence(
    logged=rows_of(LOGGED, LOG),
    stored=rows_of(STORED, [row[:3] + row[4:] for row in LOG if row[2] in (0, 1, 2, 3, 7)]),
    letters=rows_of(LETTERS, [(TOPIC, 3, 5)]),
    seam={TOPIC: {3: 10}},
    ends={PLACE: 10},
    ledger=Ledger({PLACE: BOOK}, COVERAGE, {}, {BTC: 1}),
    snapshots=(seen(1, 4), seen(2, 10)),
)


def without(offset: int) -> pa.Table:
    return SOUND.stored.filter(pc.field("offset") != offset)


def and_row(row: Row) -> pa.Table:
    return pa.concat_tables([SOUND.stored, rows_of(STORED, [row[:3] + row[4:]])])


def and_logged(*rows: Row) -> Evidence:
    end = 10 + len(rows)
    return replace(
        SOUND,
        logged=pa.concat_tables([SOUND.logged, rows_of(LOGGED, list(rows))]),
        seam={TOPIC: {3: end}},
        ends={PLACE: end},
    )


def booked(**changes: object) -> Ledger:
    book = replace(BOOK, **changes)  # type: ignore[arg-type]
    return replace(SOUND.ledger, partitions={PLACE: book})


def covering(*ids: Ids) -> Ledger:
    return replace(SOUND.ledger, coverage={BTC: ids})


Broken = Callable[[], Evidence]
BROKEN: dict[str, Broken] = {
    "a position has no fate": lambda: replace(SOUND, ledger=booked(lost=(Lost(9, 10, AT_US),))),
    "a position has two fates": lambda: replace(SOUND, ledger=booked(lost=(Lost(7, 10, AT_US),))),
    "a conflict was dropped as a duplicate": lambda: and_logged(trade(10, 2, price="1.5")),
    "a dead record has no letter": lambda: replace(SOUND, letters=SOUND.letters.slice(1)),
    "a record that is not dead has a letter": lambda: replace(
        SOUND, letters=rows_of(LETTERS, [(TOPIC, 3, 5), (TOPIC, 3, 1)])
    ),
    "a position is stored twice": lambda: replace(SOUND, stored=and_row(LOG[2])),
    "an id is stored twice": lambda: replace(SOUND, stored=and_row(LOG[4])),
    "a row is stored past the seam": lambda: replace(SOUND, seam={TOPIC: {3: 7}}),
    "a row was never produced": lambda: replace(SOUND, stored=and_row(trade(99, 7_000))),
    "a row is not what was produced": lambda: replace(
        SOUND, stored=pa.concat_tables([without(3), and_row(trade(3, 3, price="1.5")).slice(5)])
    ),
    "duplicates are miscounted": lambda: replace(
        SOUND, ledger=replace(SOUND.ledger, duplicates={BTC: 2})
    ),
    "the ledger's ids are not those of the rows": lambda: replace(
        SOUND, ledger=covering(Ids(0, 8, FIRST_US, FIRST_US + 8))
    ),
    "the ledger speaks of positions past the seam": lambda: replace(
        SOUND, ledger=booked(lost=(Lost(8, 11, AT_US),))
    ),
    "the seam is past the end of the log": lambda: replace(SOUND, ends={PLACE: 9}),
    "offsets went back": lambda: replace(SOUND, snapshots=(seen(1, 5), seen(2, 4))),
    "the log of snapshots is not sorted": lambda: replace(
        SOUND, snapshots=(seen(2, 4), seen(1, 10))
    ),
    "a file of a kept snapshot is gone": lambda: replace(SOUND, files_missing=("a.parquet",)),
}


def test_sound_evidence_passes() -> None:
    """Each fate once, and nothing to say."""
    assert_sound(SOUND)
    assert tally(SOUND) == {
        "stored": 5,
        "duplicate": 1,
        "dead-lettered": 1,
        "shed": 1,
        "lost": 2,
    }


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_wrong_is_found(kind: str) -> None:
    """By its name, with a place."""
    found = {violation.kind: violation for violation in violations(BROKEN[kind]())}
    assert kind in found
    assert found[kind].examples


def test_a_snapshot_of_another_tool_may_have_any_time() -> None:
    """Its clock is not ours, and PyIceberg takes it as it is; what K2 adds next is checked."""
    theirs = replace(seen(1, 4), foreign=True)
    assert_sound(replace(SOUND, snapshots=(seen(2, 4), theirs, seen(3, 10))))


@pytest.mark.parametrize(("price", "sound"), [("1.5", True), ("60008.5", False)])
def test_the_letter_of_what_contradicted_a_lost_trade_may_stay(price: str, sound: bool) -> None:
    """A writer had both in hand and was killed; what says the same has no letter."""
    again = trade(10, 8, price=price)
    ids = (*COVERAGE[BTC][:1], Ids(7, 8, FIRST_US + 7, FIRST_US + 8))
    evidence = replace(
        and_logged(again),
        stored=and_row(again),
        letters=rows_of(LETTERS, [(TOPIC, 3, 5), (TOPIC, 3, 10)]),
        ledger=covering(*ids),
    )
    assert (violations(evidence) == []) is sound


def test_a_row_that_vanished_is_found() -> None:
    """The position has no fate, and the ledger covers an id that is not there."""
    kinds = [violation.kind for violation in violations(replace(SOUND, stored=without(2)))]
    assert kinds == ["a position has no fate", "the ledger's ids are not those of the rows"]


def test_a_row_that_no_ledger_covers_is_found() -> None:
    """It would be stored again when it is re-sent."""
    evidence = replace(SOUND, ledger=covering(COVERAGE[BTC][0]))
    assert [violation.kind for violation in violations(evidence)] == [
        "the ledger's ids are not those of the rows"
    ]


def test_a_key_that_is_not_shed_must_be_stored() -> None:
    """An open range excuses its own symbols alone."""
    evidence = replace(SOUND, ledger=booked(shed=(BOOK.shed[0]._replace(symbols=("XRPUSDT",)),)))
    assert [violation.kind for violation in violations(evidence)] == ["a position has no fate"]


def test_lost_of_some_symbols_excuses_them_alone() -> None:
    """What was lost of a shed range is lost for the symbols shed."""
    lost = Lost(8, 10, AT_US, ("BTCUSDT",))
    assert not violations(replace(SOUND, ledger=booked(lost=(lost,))))
    other = lost._replace(symbols=(LOW,))
    assert violations(replace(SOUND, ledger=booked(lost=(other,))))


def test_what_is_on_its_way_is_named() -> None:
    """Positions past the seam, and shed ranges."""
    ahead = replace(SOUND, ends={PLACE: 12})
    assert undrained(ahead) == [f"{TOPIC}/3 stands at 10 of 12", "shed 6 to 8"]
