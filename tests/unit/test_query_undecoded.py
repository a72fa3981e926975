"""What the tail reads and cannot decode is lacking until a commit settles it."""

from __future__ import annotations

from dataclasses import replace

from libs.kafka.topics import TRADES_BINANCE
from libs.lake.commits.seam import TopicPartition
from libs.lake.completeness.scope import Scope
from libs.lake.files.index import SnapshotIndex, index_of
from libs.lake.ledger.ledger import Dead, Ledger, PartitionBook, Shed
from libs.lake.table.naming import fresh_columns
from libs.lake.table.tables import TRADES_SCHEMA
from libs.market.bucket import bucket_of
from services.query.completeness.certifying import Certifier
from services.query.completeness.undecoded import MOST_RANGES, with_more
from services.query.keeper import Read, after_read
from services.query.state import State
from services.query.tail.tail import EMPTY_TAIL

BTC = "BTCUSDT"
PLACE = TopicPartition(TRADES_BINANCE, bucket_of(BTC))
ENDS = {TRADES_BINANCE: {PLACE.partition: 10}}


def bad(offset: int, key: str = BTC) -> Dead:
    return Dead(offset, offset + 1, key, "UNDECODABLE", 0)


def index(seam: int, *shed: Shed) -> SnapshotIndex:
    at = {TRADES_BINANCE: {PLACE.partition: seam}}
    ledger = Ledger(partitions={PLACE: PartitionBook(shed=shed)})
    return replace(index_of(1, fresh_columns(TRADES_SCHEMA), at, {}), ledger=ledger)


def read(*dead: Dead) -> State:
    """Read ten records from the seam at 0 on, some of them bad."""
    state = State.of(index(0), EMPTY_TAIL, ENDS)
    spans, ends = {PLACE.partition: (0, 10)}, {PLACE.partition: 10}
    return after_read(state, Read(TRADES_BINANCE, None, spans, ends, {PLACE: dead}))


def lacking(state: State, symbol: str = BTC) -> list[tuple[str, int, int]]:
    found = Certifier().verdict(state, Scope(symbol)).lacks
    return [(each.why, *each.offsets) for each in found if each.offsets]


def test_what_cannot_be_decoded_is_lacking() -> None:
    """Neighbours are one range; another symbol's key says that it is no trade of this one."""
    assert lacking(read(bad(3), bad(4), bad(7))) == [("DEAD_LETTER", 3, 5), ("DEAD_LETTER", 7, 8)]
    assert lacking(read(bad(3, "ETHUSDT"))) == []
    assert lacking(read(bad(3, ""))) == [("DEAD_LETTER", 3, 4)]


def test_a_commit_that_passes_it_settles_it() -> None:
    """The ledger says from then on what became of it; what it put off still waits."""
    state = read(bad(3), bad(7))
    assert lacking(state.committed(index(5), None)) == [("DEAD_LETTER", 7, 8)]
    shed = Shed(2, 6, ("low",), "1", (BTC,), 4, 0)
    found = lacking(state.committed(index(6, shed), None))
    assert ("DEAD_LETTER", 3, 4) in found


def test_what_is_read_again_counts_once() -> None:
    """A reader that starts again reads the same records."""
    again = with_more({PLACE: (bad(3),)}, {PLACE: [bad(3), bad(4)]})
    assert again == {PLACE: (Dead(3, 5, BTC, "UNDECODABLE", 0),)}


def test_a_flood_is_one_range() -> None:
    """Memory does not grow with them, and no symbol of the partition is called complete."""
    many = [bad(offset) for offset in range(0, 4 * MOST_RANGES, 2)]
    (dead,) = with_more({}, {PLACE: many})[PLACE]
    assert (dead.start, dead.end, dead.symbol) == (0, 4 * MOST_RANGES - 1, "")
