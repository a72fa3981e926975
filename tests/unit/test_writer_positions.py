"""The consumer's book of positions."""

from __future__ import annotations

from services.writer.intake.positions import Lost, Positions, Refuse, Seek, Verdict, place

P0, P1 = ("trades", 0), ("trades", 1)


def placed_at(offset: int) -> Positions:
    positions = Positions()
    positions.assign([P0, P1])
    assert positions.place(P0, offset, assignment=positions.assignment)
    return positions


def test_a_partition_the_table_has_never_seen_starts_at_the_log() -> None:
    """Nothing stored, nothing deleted: read from 0."""
    assert place(P0, table_offset=0, log_start=0, log_end=9) == Seek(0)


def test_reading_goes_on_where_the_table_stands() -> None:
    """The end of the log included: nothing new is a position too."""
    assert place(P0, table_offset=5, log_start=0, log_end=9) == Seek(5)
    assert place(P0, table_offset=9, log_start=9, log_end=9) == Seek(9)


def test_what_retention_took_is_lost_and_not_jumped_over() -> None:
    """Below the log's start, also on a table that has seen nothing yet."""
    assert place(P0, table_offset=5, log_start=7, log_end=9) == Lost(5, 7)
    assert place(P0, table_offset=0, log_start=7, log_end=9) == Lost(0, 7)


def test_a_table_ahead_of_the_log_is_refused_by_name_and_offsets() -> None:
    """Another log under the same name must not be mixed in."""
    refusal = place(P1, table_offset=12, log_start=0, log_end=9)
    assert isinstance(refusal, Refuse)
    assert all(word in refusal.reason for word in ("trades", "1", "12", "9"))


def test_nothing_is_taken_before_it_is_placed() -> None:
    """What aiokafka delivers from Kafka's committed offset meanwhile is dropped."""
    positions = Positions()
    positions.assign([P0])
    assert positions.judge(P0, first=40, following=50) is Verdict.DROP
    assert positions.unplaced == {P0}


def test_batches_are_taken_in_a_chain() -> None:
    """Each starts where the one before ended."""
    positions = placed_at(5)
    assert positions.judge(P0, first=5, following=8) is Verdict.TAKE
    assert positions.judge(P0, first=8, following=9) is Verdict.TAKE
    assert positions.expected(P0) == 9


def test_a_batch_from_elsewhere_is_sought_again() -> None:
    """Both before and past the position; the position stays."""
    positions = placed_at(5)
    assert positions.judge(P0, first=3, following=8) is Verdict.SEEK
    assert positions.judge(P0, first=7, following=8) is Verdict.SEEK
    assert positions.expected(P0) == 5


def test_the_same_start_after_a_seek_is_a_hole_in_the_log() -> None:
    """A transaction's marker or compaction leaves offsets without records."""
    positions = placed_at(5)
    assert positions.judge(P0, first=7, following=9) is Verdict.SEEK
    assert positions.judge(P0, first=7, following=9) is Verdict.TAKE
    assert positions.judge(P0, first=12, following=13) is Verdict.SEEK


def test_an_answer_for_an_earlier_assignment_places_nothing() -> None:
    """The group moved on while the table was asked."""
    positions = placed_at(5)
    before = positions.assignment
    positions.assign([P0])
    assert not positions.place(P0, 5, assignment=before)
    assert positions.unplaced == {P0}


def test_a_late_fence_does_not_unplace_what_was_placed_since() -> None:
    """A fence of an older generation has been dealt with."""
    positions = placed_at(5)
    old = {P0: positions.generation(P0) or 0}
    assert positions.fence(old) == {P0}
    positions.place(P0, 9, assignment=positions.assignment)
    assert positions.fence(old) == frozenset()
    assert positions.expected(P0) == 9


def test_revoked_partitions_are_forgotten() -> None:
    """Nothing of them is taken, shown or placed any more."""
    positions = placed_at(5)
    positions.revoke()
    assert positions.judge(P0, first=5, following=6) is Verdict.DROP
    assert not positions.assigned
