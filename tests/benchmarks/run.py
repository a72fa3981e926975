"""What every measurement is given: a folder, a size, and who to tell how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.figures import Peaks


@dataclass(frozen=True, slots=True)
class Run:
    """`scale` is 1 for the sizes that the figures are named after."""

    folder: Path
    scale: float
    say: Callable[[str], None]
    peaks: Peaks = field(default_factory=Peaks)

    def sized(self, count: int) -> int:
        return max(1, round(count * self.scale))
