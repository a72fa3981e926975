"""K2's times in Protobuf."""

from __future__ import annotations

import pytest

from libs.rpc.times import timestamp, timestamp_or_unset


@pytest.mark.parametrize("time_us", [0, 1, 1_723_107_600_123_456, -1])
def test_a_moment_comes_back_to_the_microsecond(time_us: int) -> None:
    """Also before 1970, where seconds and nanos go different ways."""
    assert timestamp(time_us).ToMicroseconds() == time_us
    assert 0 <= timestamp(time_us).nanos < 1_000_000_000


def test_a_moment_that_has_not_come_is_not_said() -> None:
    """0 in K2's records is no moment of 1970."""
    assert timestamp_or_unset(0) is None
    assert timestamp_or_unset(7) == timestamp(7)
