"""Generated trades look like recorded ones."""

from __future__ import annotations

import pytest

from tests.support.realdata import binance_recordings, needs_realdata
from tests.support.shape import Shape, shape_of
from tools.simulator import truth
from tools.simulator.session import generated, recorded

SYMBOLS = ("BTCUSDT", "ETHUSDT")
# How far apart generated and recorded may be, as a ratio, by statistic. Two symbols of eleven
# minutes differ among themselves by up to 1.7.
WITHIN = dict.fromkeys(Shape.__slots__, 1.6) | {
    "trades_per_order": 1.25,
    "same_side": 1.15,
    "same_price_in_order": 1.2,
    "same_price_next_order": 1.2,
    "order_gap_p50_ms": 2.5,
    "fano_10_s": 2.0,
    "notional_p50": 2.0,
}


@needs_realdata
def test_generated_trades_have_the_recorded_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """Bursts, runs of one side, price steps and sizes agree; the table shows how well."""
    real = truth.columns(recorded(binance_recordings()))
    seconds = (max(real.time_us) - min(real.time_us)) / 1e6
    rate = len(real.time_us) / seconds
    made = truth.columns(generated(2, symbols=2, duration_s=3 * seconds, rate=rate))
    shapes = [[shape_of(trades, s) for s in SYMBOLS] for trades in (real, made)]
    with capsys.disabled():
        print(table(*shapes))
    for name, bound in WITHIN.items():
        recorded_mean, generated_mean = (
            sum(getattr(s, name) for s in of) / len(of) for of in shapes
        )
        assert 1 / bound < generated_mean / recorded_mean < bound, name


def table(real: list[Shape], made: list[Shape]) -> str:
    """Lay recorded beside generated, a column for each symbol."""
    lines = [f"{'':24}{'recorded':>20}{'generated':>20}"]
    for name, _ in real[0].named():
        cells = "".join(f"{getattr(shape, name):10.3f}" for shape in (*real, *made))
        lines.append(f"{name:24}{cells}")
    return "\n" + "\n".join(lines)
