"""Bytes of a broker's log, damaged and mended."""

from __future__ import annotations

from pathlib import Path

import pytest


def segment_of(folders: pytest.TempPathFactory, topic: str, partition: int) -> Path:
    """Find the file of a partition that has but one."""
    (segment,) = folders.getbasetemp().glob(f"**/{topic}-{partition}/{'0' * 20}.log")
    return segment


def turned_over(path: Path, at: int) -> None:
    """Damage a byte of a file, or mend it again."""
    with path.open("r+b") as file:
        file.seek(at)
        (octet,) = file.read(1)
        file.seek(at)
        file.write(bytes([octet ^ 0xFF]))
