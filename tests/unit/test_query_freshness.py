"""Percentiles of age over the last minute."""

from __future__ import annotations

import numpy as np

from services.query.freshness import Freshness, FreshnessPage


def test_percentiles_are_within_a_bucket() -> None:
    """The answer is at most a twentieth off, whatever the size."""
    freshness = Freshness()
    freshness.saw(np.arange(1, 100_001), 10.0)
    assert abs(freshness.percentile_us(0.5, 10.0) / 50_000 - 1) < 0.06
    assert abs(freshness.percentile_us(0.99, 10.0) / 99_000 - 1) < 0.06


def test_a_minute_later_it_is_forgotten() -> None:
    """Only the last minute counts; with nothing in it the answer is 0."""
    freshness = Freshness()
    freshness.saw(np.full(10, 9_000_000), 0.0)
    freshness.saw(np.full(10, 1_000), 50.0)
    assert freshness.percentile_us(0.99, 55.0) > 8_000_000
    assert freshness.percentile_us(0.99, 70.0) < 1_100
    assert freshness.percentile_us(0.99, 200.0) == 0


def test_page_has_every_age_ever_seen() -> None:
    """By upper bounds that people know, the sum in seconds."""
    page = FreshnessPage()
    page.saw(np.array([4_000, 5_000, 30_000]))
    page.saw(np.array([120_000_000]))
    (family,) = page.collect()
    at = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert (at["0.005"], at["0.05"], at["60"], at["+Inf"]) == (2, 3, 3, 4)
    (total,) = [s.value for s in family.samples if s.name.endswith("_sum")]
    assert abs(total - 120.039) < 1e-9
