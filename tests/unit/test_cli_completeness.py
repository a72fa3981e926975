"""A certificate as people read it."""

from __future__ import annotations

from io import StringIO

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2 as pb
from rich.console import Console

from libs.lake.completeness.evidence import Why
from tools.cli.commands.completeness import NEXT_STEPS, between, show_certificate, what_of

TOLD_ONLY = {Why.VENUE, Why.NOT_COMMITTED, Why.BEHIND}
NINE = Timestamp(seconds=1_723_107_600, nanos=1_000_000)
TEN = Timestamp(seconds=1_723_111_200)
NEXT_DAY = Timestamp(seconds=1_723_194_000)


def test_every_reason_of_incompleteness_has_a_next_step() -> None:
    """Whatever makes an answer incomplete, people are told what to do."""
    assert set(NEXT_STEPS) == set(Why) - TOLD_ONLY


@pytest.mark.parametrize(
    ("hole", "words"),
    [
        (pb.MissingRange(first_id=7, last_id=7), "id 7"),
        (pb.MissingRange(first_id=7, last_id=1_006), "ids 7 to 1006 (1,000)"),
        (pb.MissingRange(topic="t", partition=3, start=5, end=9), "t/3 [5, 9)"),
        (pb.MissingRange(reason="NOT_PROVABLE"), ""),
    ],
)
def test_a_hole_is_named_by_its_ids_or_positions(hole: pb.MissingRange, words: str) -> None:
    """Ids where they are known."""
    assert what_of(hole) == words


@pytest.mark.parametrize(
    ("hole", "words"),
    [
        (
            pb.MissingRange(after_time=NINE, before_time=TEN),
            "2024-08-08 09:00:00.001 to 10:00:00.000",
        ),
        (
            pb.MissingRange(after_time=TEN, before_time=NEXT_DAY),
            "2024-08-08 10:00:00.000 to 2024-08-09 09:00:00.000",
        ),
        (pb.MissingRange(before_time=TEN), " to 2024-08-08 10:00:00.000"),
        (pb.MissingRange(), ""),
    ],
)
def test_a_gap_lies_between_two_times(hole: pb.MissingRange, words: str) -> None:
    """The day stands once where both are of it."""
    assert between(hole) == words


def test_what_only_is_told_has_no_next_step() -> None:
    """A step is for what is missing."""
    certificate = pb.CheckCompletenessResponse(
        sentence="A is not complete",
        holes=[
            pb.MissingRange(reason="GAP", first_id=1, last_id=2, lacking=True),
            pb.MissingRange(reason="SHED", topic="t", start=1, end=2, detail="kept"),
        ],
    )
    out = StringIO()
    show_certificate(Console(file=out, width=120), certificate)
    assert out.getvalue().startswith("A is not complete")
    assert NEXT_STEPS["GAP"] in out.getvalue()
    assert NEXT_STEPS["SHED"] not in out.getvalue()
