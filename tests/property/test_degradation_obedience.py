"""Whatever order directives, readings and silence come in, a process obeys as promised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.degradation.level import MEMORY_THRESHOLDS, Cause, Damping, Level, Rules
from libs.degradation.memory import MemoryUse
from libs.degradation.messages import Acknowledgement, Directive, OwnReport, Report
from libs.degradation.obedience import Obedience, applied, hear, watch
from libs.degradation.protocol import (
    acknowledgement_from_pb,
    acknowledgement_to_pb,
    directive_from_pb,
    directive_to_pb,
    report_from_pb,
    report_to_pb,
)

LIMIT = 1_000
levels = st.sampled_from(Level)
partitions = st.tuples(st.just("market.crypto.trades.binance"), st.integers(0, 15))
directives = st.builds(
    Directive,
    epoch=st.integers(1, 4),
    sequence=st.integers(1, 20),
    ttl_s=st.floats(1, 20).map(lambda s: round(s, 3)),
    lag_level=levels,
    memory_level=levels,
    writers=st.integers(1, 9),
    causes=st.lists(st.sampled_from(Cause), unique=True).map(tuple),
    hot_partitions=st.frozensets(partitions, max_size=3),
    restart=st.booleans(),
    rules=st.builds(
        Rules,
        damping=st.builds(Damping, st.floats(0.1, 0.9), st.integers(1, 9)),
        lag_samples_up=st.integers(1, 5),
        sink_down_failures=st.integers(1, 9),
    ),
)
readings = st.tuples(st.integers(0, 1_100), st.one_of(st.none(), st.integers(0, 6_000_000)))
histories = st.lists(
    st.tuples(st.floats(0.1, 8), st.one_of(directives, readings)), min_size=1, max_size=80
)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
counts = st.integers(0, 2**40)


@given(histories)
def test_process_never_obeys_backwards_and_never_below_its_own_memory(
    history: list[tuple[float, Directive | tuple[int, int | None]]],
) -> None:
    """(epoch, sequence) only grows; the directive is a floor while it holds, memory always."""
    state, now_s, newest = Obedience(), 0.0, (0, 0)
    for gap_s, event in history:
        now_s += gap_s
        if isinstance(event, Directive):
            state, answer = hear(state, event, now_s)
            offered = (event.epoch, event.sequence)
            assert bool(answer.refused_because) == (offered < newest)
            newest = max(newest, offered)
            if not answer.refused_because:
                assert applied(state, now_s).lag_level is event.lag_level
                assert applied(state, now_s).level >= event.level
        else:
            used, own_lag = event
            state = watch(state, MemoryUse(used, LIMIT), OwnReport(lag=own_lag), now_s)
            assert applied(state, now_s).memory_level >= MEMORY_THRESHOLDS.demanded(used / LIMIT)


@given(directives, st.lists(st.one_of(st.none(), st.integers(0, 6_000_000)), max_size=25))
def test_losing_the_governor_lowers_nothing_within_a_cooldown(
    last: Directive, lags: list[int | None]
) -> None:
    """At the end of its TTL a directive's lag level still stands; the own lag can only raise it."""
    state, _ = hear(Obedience(), last, 0)
    for second, own_lag in enumerate(lags):
        now_s = last.ttl_s + second
        state = watch(state, MemoryUse(1, LIMIT), OwnReport(lag=own_lag), now_s)
        assert applied(state, now_s).lag_level >= last.lag_level


@given(directives)
def test_directive_comes_back_from_protobuf(directive: Directive) -> None:
    """Rules and TTL with it."""
    assert directive_from_pb(directive_to_pb(directive)) == directive


@given(
    st.builds(
        Report,
        service=texts,
        process=texts,
        memory_used_bytes=counts,
        memory_limit_bytes=st.integers(1, 2**40),
        memory_baseline_bytes=counts,
        memory_level=levels,
        applied_level=levels,
        applied_lag_level=levels,
        epoch=counts,
        own=st.builds(
            OwnReport,
            consumer_group=texts,
            positions=st.dictionaries(st.tuples(texts, st.integers(0, 99)), counts, max_size=5),
            lag=st.one_of(st.none(), counts),
            commit_failures=st.integers(0, 99),
            restart_wanted=st.booleans(),
        ),
    )
)
def test_report_comes_back_from_protobuf(report: Report) -> None:
    """An unknown lag stays unknown, and 0 stays 0."""
    assert report_from_pb(report_to_pb(report)) == report


@given(counts, counts, st.text(st.characters(codec="utf-8"), max_size=20))
def test_acknowledgement_comes_back_from_protobuf(epoch: int, sequence: int, why: str) -> None:
    """With its refusal."""
    said = Acknowledgement(epoch, sequence, why)
    assert acknowledgement_from_pb(acknowledgement_to_pb(said)) == said
