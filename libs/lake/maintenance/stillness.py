"""For how long each partition's files have been the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from libs.lake.files.index import FileEntry
from libs.lake.maintenance.compaction import Partition, partition_of


class Stillness:
    """Remembers when each partition's files last changed, as far as anybody looked."""

    def __init__(self) -> None:
        self._seen: dict[Partition, tuple[int, float]] = {}
        self._now_s = 0.0

    def look(self, files: Iterable[FileEntry], now_s: float) -> None:
        """Take in the files of one look; times come from one clock that never steps."""
        held: dict[Partition, list[str]] = {}
        for file in files:
            held.setdefault(partition_of(file), []).append(file.path)
        self._now_s = now_s
        self._seen = {
            partition: self._since(partition, hash(frozenset(paths)))
            for partition, paths in held.items()
        }

    def unchanged_s(self, partition: Partition) -> float:
        """Return for how long it was the same at the last look; 0 where it was never seen."""
        seen = self._seen.get(partition)
        return self._now_s - seen[1] if seen else 0.0

    def _since(self, partition: Partition, fingerprint: int) -> tuple[int, float]:
        before = self._seen.get(partition)
        if before is not None and before[0] == fingerprint:
            return before
        return fingerprint, self._now_s
