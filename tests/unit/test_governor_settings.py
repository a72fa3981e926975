"""Every threshold, cooldown and factor is a setting, with the design's defaults."""

from __future__ import annotations

import pytest

from libs.degradation.level import Damping, Rules, Thresholds
from libs.market.errors import ConfigError
from libs.runtime.config import load
from services.governor.config import GovernorConfig
from services.governor.deciding.background import Settings
from services.governor.deciding.replicas import ScaleRules

EVERY_ONE = {
    "K2_GOVERNOR_LAG_THRESHOLDS": "10,20,30,40",
    "K2_GOVERNOR_LAG_SCALE": "0.1",
    "K2_GOVERNOR_MEMORY_THRESHOLDS": "0.1,0.2,0.3,0.4",
    "K2_GOVERNOR_COOLDOWN_S": "3",
    "K2_GOVERNOR_RECOVERY_SHARE": "0.6",
    "K2_GOVERNOR_REVERSALS_TO_DOUBLE": "5",
    "K2_GOVERNOR_REVERSAL_WINDOW_S": "61",
    "K2_GOVERNOR_MOST_COOLDOWN_FACTOR": "8",
    "K2_GOVERNOR_LAG_SAMPLES_UP": "7",
    "K2_GOVERNOR_SINK_DOWN_FAILURES": "9",
    "K2_GOVERNOR_HOT_SHARE": "0.7",
    "K2_GOVERNOR_DRAIN_S": "11",
    "K2_GOVERNOR_UTILISATION": "0.5",
    "K2_GOVERNOR_SCALE_UP_AFTER_S": "1",
    "K2_GOVERNOR_SCALE_DOWN_AFTER_S": "2",
    "K2_GOVERNOR_TTL_S": "4",
    "K2_GOVERNOR_SAMPLE_EVERY_S": "0.1",
    "K2_GOVERNOR_REPORT_FRESH_S": "1.5",
}


def test_defaults_are_the_designs() -> None:
    """100,000 to 5 million records, 70 to 95 % of memory, 30 s, half, four in ten minutes, 4x."""
    config = load(GovernorConfig, {})
    assert config.rules == Rules(
        Thresholds(100_000, 500_000, 1_000_000, 5_000_000),
        Thresholds(0.70, 0.80, 0.90, 0.95),
        30.0,
        Damping(0.5, 4, 600.0, 4),
        lag_samples_up=2,
        sink_down_failures=3,
    )
    assert config.settings == Settings(0.8, ScaleRules(120.0, 0.8, 15.0, 300.0))
    assert (config.ttl_s, config.sample_every_s, config.report_fresh_s) == (10.0, 0.3, 2.5)


def test_every_setting_arrives() -> None:
    """And the scale multiplies the lag thresholds alone."""
    config = load(GovernorConfig, EVERY_ONE)
    assert config.rules == Rules(
        Thresholds(1, 2, 3, 4),
        Thresholds(0.1, 0.2, 0.3, 0.4),
        3.0,
        Damping(0.6, 5, 61.0, 8),
        lag_samples_up=7,
        sink_down_failures=9,
    )
    assert config.settings == Settings(0.7, ScaleRules(11.0, 0.5, 1.0, 2.0))
    assert (config.ttl_s, config.sample_every_s, config.report_fresh_s) == (4.0, 0.1, 1.5)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("K2_GOVERNOR_SAMPLE_EVERY_S", "6"),
        ("K2_GOVERNOR_TTL_S", "1"),
        ("K2_GOVERNOR_MEMORY_THRESHOLDS", "70,80,90,95"),
    ],
)
def test_what_could_never_work_stops_the_start(variable: str, value: str) -> None:
    """No level would fall between such readings, no report come in such a TTL, nor 70 x a limit."""
    with pytest.raises(ConfigError, match=variable):
        load(GovernorConfig, {variable: value})
