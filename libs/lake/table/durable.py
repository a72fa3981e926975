"""Files that survive a power cut: on the disk before the catalog points at them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit


def local_path(location: str) -> Path | None:
    """Return the path of a local location, None for an object store's."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(location)


def make_durable(locations: Iterable[str]) -> None:
    """Flush local files and the folders that name them; an object store has done so already."""
    paths = [path for location in locations if (path := local_path(location)) is not None]
    for path in paths:
        flush(path)
    for folder in sorted({folder for path in paths for folder in list(path.parents)[:3]}):
        flush(folder)


def flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
