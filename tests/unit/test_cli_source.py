"""What one folder may be filled from."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.market.errors import ConflictError
from tools.cli.session.source import Source, keep_to


def test_a_folder_keeps_to_the_source_of_its_first_trades(tmp_path: Path) -> None:
    """Ids of another seed would be gaps, and real trades would contradict made ones."""
    keep_to(Source(seed=7), tmp_path)
    keep_to(Source(seed=7, trades_per_second=50), tmp_path)
    for other in (Source(seed=8), Source(live="BTCUSDT")):
        with pytest.raises(ConflictError, match="seed 7"):
            keep_to(other, tmp_path)
