"""Memory holds fetching back for a minute at most, and lag never does."""

from __future__ import annotations

from typing import cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from libs.degradation.level import Level
from libs.degradation.policy import load_policy, parse_policy
from libs.market.bucket import BUCKETS, bucket_of
from services.writer.intake.pauses import Pauses
from services.writer.intake.positions import Partition, Positions
from services.writer.intake.throttle import LONGEST_PAUSE_S, Reading, Throttle, held_back

TOPIC = "market.crypto.trades.binance"
ALL = [(TOPIC, number) for number in range(BUCKETS)]
STEP_S = 5.0


@given(st.lists(st.tuples(st.sampled_from(list(Level)), st.floats(0.01, STEP_S)), max_size=60))
def test_no_pause_lasts_longer_than_a_minute(steps: list[tuple[Level, float]]) -> None:
    """Whatever memory does; below GRACEFUL there is none."""
    throttle, now_s, paused_since_s = Throttle(), 0.0, None
    for level, passed_s in steps:
        now_s += passed_s
        throttle = throttle.after(level, now_s)
        if throttle.reading is Reading.ALL:
            paused_since_s = None
        else:
            assert level >= Level.GRACEFUL
            paused_since_s = now_s if paused_since_s is None else paused_since_s
            assert now_s - paused_since_s <= LONGEST_PAUSE_S
            assert (throttle.reading is Reading.CRITICAL) == (level is Level.GRACEFUL)


def test_each_level_of_memory_takes_less_at_a_time() -> None:
    """Down to the smallest batches, on which it goes on when a pause did not help."""
    at = [Throttle().after(level, 0.0) for level in Level]
    assert [throttle.max_runs for throttle in at] == [8, 4, 2, 1, 1]
    assert [throttle.fetch_share for throttle in at] == [1, 2, 4, 8, 8]
    assert [throttle.reading for throttle in at] == [
        Reading.ALL,
        Reading.ALL,
        Reading.CRITICAL,
        Reading.NOTHING,
        Reading.NOTHING,
    ]


def test_a_pause_that_helps_nothing_can_be_ended_before_its_minute() -> None:
    """It bears the level from then on, until memory gets worse or recovers."""
    gone_on = Throttle().after(Level.AGGRESSIVE, 0).gone_on()
    assert (gone_on.reading, gone_on.max_runs, gone_on.bears) == (Reading.ALL, 1, True)
    assert gone_on.after(Level.AGGRESSIVE, 1).reading is Reading.ALL
    assert gone_on.after(Level.CIRCUIT_BREAK, 1).reading is Reading.NOTHING
    assert not gone_on.after(Level.SOFT, 1).bears
    assert not Throttle().after(Level.AGGRESSIVE, 0).bears


def test_a_pause_in_vain_is_not_begun_again() -> None:
    """Until memory has recovered, or it gets worse."""
    ran_out = Throttle().after(Level.AGGRESSIVE, 0).after(Level.AGGRESSIVE, 60)
    assert ran_out.reading is Reading.ALL
    assert ran_out.after(Level.GRACEFUL, 61).reading is Reading.ALL
    assert ran_out.after(Level.GRACEFUL, 61).after(Level.AGGRESSIVE, 62).reading is Reading.ALL
    assert ran_out.after(Level.CIRCUIT_BREAK, 62).reading is Reading.NOTHING
    recovered = ran_out.after(Level.SOFT, 61)
    assert recovered.after(Level.AGGRESSIVE, 62).reading is Reading.NOTHING


def test_graceful_holds_the_partitions_without_a_critical_symbol() -> None:
    """By the bucket of each critical symbol; where a pattern is critical, none is held."""
    policy = load_policy("crypto")
    read = {(TOPIC, bucket_of(symbol)) for symbol in ("BTCUSDT", "ETHUSDT")}
    assert held_back(Reading.CRITICAL, ALL, policy) == set(ALL) - read
    assert held_back(Reading.NOTHING, ALL, policy) == set(ALL)
    assert held_back(Reading.ALL, ALL, policy) == set()
    wild = parse_policy('name = "x"\n[exchanges.BINANCE]\ncritical = ["BTC*"]', where="")
    assert held_back(Reading.CRITICAL, ALL, wild) == set()


class PausingKafka:
    """Knows what is paused, as aiokafka does."""

    def __init__(self) -> None:
        self.paused: set[Partition] = set()

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= {(tp.topic, tp.partition) for tp in partitions}

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused -= {(tp.topic, tp.partition) for tp in partitions}


some = st.sets(st.sampled_from(ALL[:4]))


@given(st.lists(st.tuples(st.sampled_from(["memory", "burst", "assign", "place", "lose"]), some)))
def test_what_is_held_or_not_placed_is_paused_and_all_else_is_read(
    steps: list[tuple[str, set[Partition]]],
) -> None:
    """Through assignments, which make aiokafka forget, and placings in any order."""
    kafka, positions, pauses = PausingKafka(), Positions(), Pauses()
    for step, partitions in steps:
        if step == "assign":
            kafka.paused = set(partitions)
            positions.assign(partitions)
        elif step == "place":
            for partition in partitions & positions.assigned:
                positions.place(partition, 0, assignment=positions.assignment)
                pauses.resume(cast("AIOKafkaConsumer", kafka), positions, partition)
                assert (partition in kafka.paused) == (partition in pauses.held)
        elif step == "lose":
            kafka.pause(*(TopicPartition(*p) for p in positions.unplace(partitions)))
        else:
            # A poll: only then is it brought to Kafka, whatever came to pass since the last.
            pauses.hold(step, partitions)
            pauses.apply(cast("AIOKafkaConsumer", kafka), positions)
            still = (pauses.held & positions.assigned) | positions.unplaced
            assert kafka.paused == still
