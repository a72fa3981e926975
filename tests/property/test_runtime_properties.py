"""No message lost on a restart that promises it, no task leaked, restart intensity honoured."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from libs.runtime.restarts import RestartHistory, RestartPolicy
from libs.runtime.supervisor import Supervisor
from tests.support.actors import Collector
from tests.support.polling import eventually

BORNE = RestartPolicy(max_restarts=1_000, backoff_s=0)
FAILURES = st.sets(st.integers(0, 40), max_size=20)


class Relay(Collector):
    """Passes on what it handles: the second of two stages."""

    def __init__(self, onward: Collector, failing_attempts: set[int], capacity: int) -> None:
        super().__init__("relay", failing_attempts=failing_attempts, capacity=capacity)
        self._onward = onward

    async def handle(self, message: int) -> None:
        await super().handle(message)
        await self._onward.tell(message)


@given(
    count=st.integers(0, 25),
    sink_failures=FAILURES,
    relay_failures=FAILURES,
    capacity=st.integers(1, 4),
    stop_after_turns=st.integers(0, 60),
)
@settings(max_examples=150, deadline=None)
def test_no_accepted_message_is_lost(
    count: int,
    sink_failures: set[int],
    relay_failures: set[int],
    capacity: int,
    stop_after_turns: int,
) -> None:
    """Two stages that fail at will and are stopped at any turn: all that was accepted arrives.

    In order, and once: a message is repeated only where handling it failed half-way.
    """

    async def scenario() -> None:
        sink = Collector("sink", failing_attempts=sink_failures, capacity=capacity)
        relay = Relay(sink, relay_failures, capacity)
        supervisor = Supervisor([sink, relay], policy=BORNE, stop_timeout_s=60)
        run = asyncio.create_task(supervisor.run())
        accepted: list[int] = []

        async def send_all() -> None:
            for number in range(count):
                await relay.tell(number)
                accepted.append(number)

        sender = asyncio.create_task(send_all())
        for _ in range(stop_after_turns):
            await asyncio.sleep(0)
        await eventually(lambda: supervisor.started, poll_s=0)
        await supervisor.stop()
        await run
        await asyncio.gather(sender, return_exceptions=True)

        assert sink.handled == accepted
        assert asyncio.all_tasks() == {asyncio.current_task()}

    # Each failure is logged with its traceback: thousands here.
    with capture_logs():
        asyncio.run(scenario())


@given(
    gaps_s=st.lists(st.floats(0, 30, allow_nan=False), max_size=60),
    most=st.integers(0, 6),
    within_s=st.floats(1, 60),
)
def test_no_window_holds_more_restarts_than_allowed(
    gaps_s: list[float], most: int, within_s: float
) -> None:
    """In any window at most `most` are allowed, and one is refused only where it would be more."""
    history = RestartHistory(RestartPolicy(max_restarts=most, within_s=within_s))
    now_s, allowed_s = 0.0, list[float]()
    for gap_s in gaps_s:
        now_s += gap_s
        recent = [t for t in allowed_s if t > now_s - within_s]
        allowed = history.allows(now_s)
        assert allowed == (len(recent) < most)
        if allowed:
            allowed_s.append(now_s)
