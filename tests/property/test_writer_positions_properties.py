"""Whatever Kafka delivers and the group does, what is taken is an unbroken chain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.writer.intake.positions import Positions, Verdict

P = ("trades", 3)
offsets = st.integers(0, 12)
deliveries = st.tuples(st.just("deliver"), offsets, st.integers(1, 5))
steps = st.one_of(
    deliveries,
    deliveries,
    st.tuples(st.just("place"), offsets, st.just(0)),
    st.tuples(st.sampled_from(["rebalance", "revoke", "fence"]), st.just(0), st.just(0)),
)


@given(st.lists(steps, max_size=60))
def test_what_is_taken_is_an_unbroken_chain_from_the_placed_offset(
    script: list[tuple[str, int, int]],
) -> None:
    """Each batch begins at the end of the one before, or past a hole that was sought twice."""
    positions = Positions()
    positions.assign([P])
    at: int | None = None
    sought: int | None = None
    for step, offset, count in script:
        if step == "place" and positions.place(P, offset, assignment=positions.assignment):
            at, sought = offset, None
        elif step in ("rebalance", "revoke"):
            positions.assign([P]) if step == "rebalance" else positions.revoke()
            at = None
        elif step == "fence":
            positions.unplace([P])
            at = None
        elif step == "deliver":
            verdict = positions.judge(P, first=offset, following=offset + count)
            assert (verdict is Verdict.DROP) == (at is None)
            if verdict is Verdict.TAKE:
                assert offset in (at, sought)
                at, sought = offset + count, None
            elif verdict is Verdict.SEEK:
                assert at is not None
                sought = offset if offset > at else None
        assert positions.expected(P) == at
