"""Taking the catalog away from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.market.errors import UnavailableError
from tools.chaos.outages import catalog_locked


def test_a_catalog_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    """In one sentence, whatever SQLite says of it."""
    catalog = tmp_path / "catalog.db"
    catalog.write_bytes(b"this is no database, however long one looks at it" * 100)
    with (
        pytest.raises(UnavailableError, match=r"catalog\.db cannot be locked"),
        catalog_locked(catalog),
    ):
        pytest.fail("it was locked")
