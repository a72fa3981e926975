"""What the writer says of itself: what is read, what is held, and nothing that is not known."""

from __future__ import annotations

from services.writer.intake.consumer import PartitionView
from services.writer.intake.holds import Hold
from services.writer.intake.positions import Partition
from services.writer.reporting import lag_of, own_report

TOPIC = "market.crypto.trades.binance"
HOLD = Hold((TOPIC, 1), 1, 100, 5, "UNKNOWN_SCHEMA: no", 0, 1.0)


def view(number: int, decoded: int, end: int | None, hold: Hold | None = None) -> PartitionView:
    return PartitionView((TOPIC, number), decoded, end, paused=hold is not None, hold=hold)


def placed(*numbers: int) -> frozenset[Partition]:
    return frozenset((TOPIC, number) for number in numbers)


def test_lag_is_what_is_not_decoded_of_what_is_read() -> None:
    """A partition that is ahead of the end it knows adds nothing."""
    said = own_report("g", [view(0, 90, 100), view(1, 12, 10)], placed(0, 1), 2)
    assert (said.lag, said.commit_failures) == (10, 2)
    assert said.positions == {(TOPIC, 0): 90, (TOPIC, 1): 12}


def test_partition_without_a_place_has_no_position() -> None:
    """Position 0 would make the whole log its lag, and shed all others for it."""
    said = own_report("g", [view(0, 90, 100), view(1, 0, 5_000_000)], placed(0), 0)
    assert said.positions == {(TOPIC, 0): 90}
    assert said.lag is None


def test_lag_of_a_held_partition_is_told_and_presses_nobody() -> None:
    """No level helps records that cannot be read, and backfill goes on beside them."""
    views = [view(0, 90, 100), view(1, 100, 6_000_000, HOLD)]
    said = own_report("g", views, placed(0, 1), 0)
    assert (said.lag, said.held) == (10, placed(1))
    assert said.positions[TOPIC, 1] == 100


def test_lag_is_unknown_while_an_end_is() -> None:
    """But for a held one, which nothing is fetched of."""
    assert lag_of([view(0, 90, None)]) is None
    assert lag_of([view(0, 90, 95), view(1, 1, None, HOLD)]) == 5
