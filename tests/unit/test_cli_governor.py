"""What `k2 governor` reads from people, and what it draws for them."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from k2.governor.v1 import governor_pb2 as pb
from rich.console import Console

from libs.market.errors import InvalidError
from tools.cli.commands.governor import _override_request
from tools.cli.commands.governor_plot import refuse_undrawable, story_of
from tools.cli.commands.governor_watch import line_of, sparkline
from tools.cli.times import moment, past_moment, span_s
from tools.cli.views.governor_view import show_explained
from tools.cli.views.picture import Series, Story, draw, thinned

NOW = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)


def at(second: int) -> Timestamp:
    return Timestamp(seconds=1_772_373_600 + second)


def record(second: int, level: int, lag: int, *, leader: str = "governor-1") -> pb.Record:
    group = pb.GroupLag(consumer_group="k2-writer", lag=lag, known=True)
    process = pb.ProcessSample(process="w<1>", memory_used_bytes=4, memory_limit_bytes=10)
    return pb.Record(
        kind=pb.RECORD_KIND_SAMPLE,
        time=at(second),
        leader=pb.Leader(process=leader),
        level=pb.Level.ValueType(level + 1),
        groups=[group],
        processes=[process],
        rules=pb.Rules(
            lag_thresholds=[1e2, 5e2, 1e3, 5e3], memory_thresholds=[0.7, 0.8, 0.9, 0.95]
        ),
    )


@pytest.mark.parametrize(
    ("words", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5_400), ("1d", 86_400)]
)
def test_spans_are_read(words: str, seconds: float) -> None:
    """Seconds, minutes, hours, days."""
    assert span_s(words, field="for") == seconds


@pytest.mark.parametrize(
    ("words", "iso"),
    [
        ("10m", "2026-03-01T13:50:00+00:00"),
        ("13:30", "2026-03-01T13:30:00+00:00"),
        ("14:05:30", "2026-02-28T14:05:30+00:00"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05+00:00"),
    ],
)
def test_moments_are_read(words: str, iso: str) -> None:
    """A time of day is of the last 24 hours; all is UTC."""
    assert moment(words, NOW, field="at").isoformat() == iso


@pytest.mark.parametrize("words", ["", "soon", "10", "25:00", "2026-13-01"])
def test_what_is_no_time_is_refused(words: str) -> None:
    """Naming the option."""
    with pytest.raises(InvalidError) as refused:
        moment(words, NOW, field="at")
    assert refused.value.field == "at"


def test_what_is_yet_to_come_is_no_past_moment() -> None:
    """Now is past; the time it is is said, for UTC surprises."""
    assert past_moment("2026-03-01T14:00", NOW, field="at") == NOW
    with pytest.raises(InvalidError, match="2026-03-01 14:00:00 UTC") as refused:
        past_moment("2026-03-01T14:05", NOW, field="at")
    assert refused.value.field == "at"


def test_override_names_its_level_and_its_time() -> None:
    """In any case, with a dash or an underscore."""
    asked = _override_request("circuit-break", "why", "10m")
    assert (asked.level, asked.duration.seconds) == (pb.LEVEL_CIRCUIT_BREAK, 600)
    for level, span in (("loud", "10m"), ("SOFT", ""), ("SOFT", "ever")):
        with pytest.raises(InvalidError):
            _override_request(level, "why", span)


@pytest.mark.parametrize("name", ["x.png", "missing/x.svg"])
def test_picture_that_cannot_be_put_there_is_refused_first(tmp_path: Path, name: str) -> None:
    """Not after minutes of a chaos run."""
    refuse_undrawable(tmp_path / "x.svg", field="plot")
    with pytest.raises(InvalidError) as refused:
        refuse_undrawable(tmp_path / name, field="plot")
    assert refused.value.field == "plot"


def test_picture_shows_levels_lag_memory_and_who_took_over() -> None:
    """As valid XML, with names escaped."""
    records = [record(0, 0, 10), record(2, 1, 200), record(4, 3, 2_000, leader="governor-2")]
    records[1].override.CopyFrom(
        pb.Override(level=pb.LEVEL_SOFT, reason="a & b", set_time=at(2), end_time=at(9))
    )
    story = story_of(records)
    assert [level for _, level in story.levels] == [0, 1, 3]
    assert [value for _, value in story.lag[0].points] == [10, 200, 2_000]
    picture = draw(story)
    words = {element.text for element in ET.fromstring(picture).iter() if element.text}
    assert {"k2-writer", "w<1>", "governor-2 leads", "operator: SOFT, a & b"} <= words


def test_line_breaks_where_nothing_was_recorded() -> None:
    """No line is drawn across the time when nobody led."""
    story = story_of([record(0, 0, 5), record(60, 0, 7)])
    assert [value for _, value in story.lag[0].points] == [5, None, 7]
    assert draw(story).count("<polyline") == 4


def test_long_lines_are_thinned_to_what_can_be_seen_and_keep_their_peaks() -> None:
    """A week of samples makes no picture of a megabyte."""
    points = [(float(n), 1_000.0 if n == 7_777 else 1.0) for n in range(50_000)]
    kept = thinned(points)
    assert len(kept) < 1_300
    assert (7_777.0, 1_000.0) in kept
    empty = Story(0, 1, [(0, 0)], [Series("g", [])], [])
    assert ET.fromstring(draw(empty)) is not None


def test_sparkline_goes_up_to_the_highest() -> None:
    """And is empty where there is no lag."""
    assert sparkline([0, 4, 8]) == "▁▅█"
    assert sparkline([0, 0]) == ""


def test_watched_state_is_one_flat_line() -> None:
    """For programs."""
    state = pb.State(
        directive=pb.Directive(level=pb.LEVEL_SOFT, causes=[pb.CAUSE_LAG], override="why"),
        leader=pb.Leader(process="governor-1", epoch=7),
        leading=True,
        groups=[pb.GroupLag(consumer_group="g", lag=9, known=True)],
    )
    said = line_of(state)
    assert (said["level"], said["causes"], said["override"]) == ("SOFT", ["LAG"], "why")
    assert said["groups"] == {"g": {"lag": 9, "known": True}}


def test_an_explanation_shows_what_was_found_of_a_group() -> None:
    """Who is behind, where it is hot or held, what comes; and no rate where there was none."""
    sample = record(5, 2, 907_000)
    group = sample.groups[0]
    assert "unknown" in explained(sample)
    group.rated, group.produced_per_s, group.decoded_per_s = True, 2_000, 1_500
    group.behind.append("writer-1")
    group.sink_down.append("writer-2")
    group.hot_partitions.add(topic="t", partition=3)
    group.partitions.add(topic="t", partition=4, held=True)
    group.held_lag, group.reversals = 7_000, 4
    shown = explained(sample)
    for said in ("2,000", "1,500", "writer-1 behind", "writer-2 fail", "t 3 hot", "(4)", "4 rises"):
        assert said in shown
    assert "unknown" not in shown


def explained(sample: pb.Record) -> str:
    console = Console(file=StringIO(), width=120, highlight=False)
    show_explained(console, pb.ExplainResponse(explanation="why", sample=sample))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
