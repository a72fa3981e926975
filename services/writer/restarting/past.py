"""The restarts of this process that are past, in a file that outlives it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from libs.market.errors import UnavailableError

# More are never counted.
KEPT = 10


class PastRestarts:
    """A file of times, one a line, in UTC microseconds.

    In the run folder; without one in the machine's folder for what may be lost.
    """

    def __init__(self, process: str, run_dir: Path | None) -> None:
        folder = run_dir or Path(tempfile.gettempdir()) / "k2"
        self._path = folder / f"{process}.restarts"

    def times_us(self) -> tuple[int, ...]:
        """Return those known; a line that is damaged counts for none.

        Raises:
            UnavailableError: they cannot be read.
        """
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UnavailableError(f"the restarts cannot be counted: {error}") from error
        return tuple(int(line) for line in lines if line.isdigit())

    def add(self, time_us: int) -> None:
        """Count one more, on the disk when done.

        Raises:
            UnavailableError: it cannot be written; restarts that nobody counts might never end.
        """
        times = (*self.times_us(), time_us)[-KEPT:]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_suffix(".restarts-new")
            with beside.open("w") as file:
                file.write("".join(f"{time}\n" for time in times))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise UnavailableError(f"the restart cannot be counted: {error}") from error
