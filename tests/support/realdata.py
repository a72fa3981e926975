"""Recorded market data, read from where it lies; without it tests are skipped, visibly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def realdata() -> Path:
    """Return the folder of recorded data: K2_REALDATA, or ../shared/realdata."""
    return Path(os.environ.get("K2_REALDATA", ROOT / "../shared/realdata")).resolve()


needs_realdata = pytest.mark.skipif(
    not realdata().is_dir(), reason="no recorded data: set K2_REALDATA to its folder"
)


def binance_recordings() -> list[Path]:
    """Return the recorded Binance spot sessions, by name."""
    return sorted((realdata() / "binance-spot").glob("*.gz"))


def binance_truth() -> Path:
    """Return the Parquet file of all trades in them."""
    return realdata() / "binance-vision" / "binance_spot_trades_20240808_09.parquet"
