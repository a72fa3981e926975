"""What `k2 backfill status` says of what waits."""

from __future__ import annotations

import pytest
from k2.writer.v1 import backfill_pb2 as pb

from tools.cli.commands.backfill import span, summary, warnings_of


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (45, "45 s"), (5_400, "1 h 30 min"), (302_401, "3 d 12 h"), (86_400, "1 d")],
)
def test_a_span_is_said_by_its_two_largest_units(seconds: float, said: str) -> None:
    """As people say it."""
    assert span(seconds) == said


def test_the_summary_says_how_much_waits_and_how_long_it_takes() -> None:
    """Over all writers; where nothing waits, that."""
    owed = [pb.OpenRange(records=3_000), pb.OpenRange(records=1)]
    writers = [pb.GetBackfillResponse(records_per_s=10.0, backfilled_records=7)]
    assert summary(writers, owed).plain == (
        "3,001 records wait in 2 ranges; 7 written since the start; 10 a second, 5 min to go"
    )
    assert summary(writers, []).plain == "nothing waits; 7 written since the start"
    assert summary([], owed[1:]).plain == "1 record waits in 1 range"


def test_what_stands_in_the_way_is_said_by_writer_and_topic() -> None:
    """A topic once, whoever spares it."""
    writers = [
        pb.GetBackfillResponse(writer="writer-1", stopped_because="no Kafka", spared_topics=["t"]),
        pb.GetBackfillResponse(writer="writer-2", spared_topics=["t"]),
    ]
    assert warnings_of(writers) == [
        "writer-1 cannot write it: no Kafka",
        "t is not put off any more, its retention runs out",
    ]
