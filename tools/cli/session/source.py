"""Which exchange a run speaks to, from what was typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.market.errors import ConflictError, InvalidError
from tools.cli.parts.fleet import Exchange
from tools.simulator.faults import parse
from tools.simulator.session import Session, generated, recorded
from tools.simulator.timeline import parse_pace

ENDLESS_S = 10 * 365 * 86_400.0
PACES = "1 is the session's own pace, 10 ten times as fast, max as fast as K2 takes it"


@dataclass(frozen=True, slots=True)
class Source:
    """A generated session by its seed, recorded sessions by their files, or live Binance."""

    seed: int = 7
    symbols: int = 20
    duration_s: float | None = None
    trades_per_second: float = 500.0
    recordings: tuple[Path, ...] = ()
    live: str | None = None
    pace: str = "1"
    faults: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Whose ids its trades have: no two of these may fill one table."""
        if self.recordings or self.live is not None:
            return "a real exchange or recordings"
        return f"a generated session of seed {self.seed}"

    def session(self) -> Session:
        """Return the session that the simulator will play."""
        if self.recordings:
            return recorded(self.recordings)
        return generated(
            self.seed,
            symbols=self.symbols,
            duration_s=self.duration_s or ENDLESS_S,
            rate=self.trades_per_second,
            time_unit="us",
        )

    def exchange(self) -> Exchange:
        """Return what to start for it.

        Raises:
            InvalidError: the pace or a fault is not one, or a recording is not there.
        """
        check_pace(self.pace)
        if self.live is not None:
            return Exchange(live=True, symbols=self.live)
        # No trade is sent before everything of the session is listened to: none is missed.
        arguments = ["--pace", self.pace, "--hold", "missing", *self._session_arguments()]
        for fault in self.faults:
            parse(fault)
            arguments += ["--fault", fault]
        return Exchange(simulator_arguments=arguments, goes_on=self._goes_on)

    @property
    def _goes_on(self) -> bool:
        """Whether it is an exchange that is open now, and still is when K2 comes back."""
        return self.duration_s is None and not self.recordings and parse_pace(self.pace) == 1

    def _session_arguments(self) -> list[str]:
        if self.recordings:
            return [word for path in self.recordings for word in ("--recording", checked(path))]
        arguments = ["--seed", str(self.seed), "--symbols", str(self.symbols)]
        arguments += ["--rate", f"{self.trades_per_second:g}"]
        # Without an end it is an exchange that is open now.
        length = ["--start", "now"]
        if self.duration_s is not None:
            length = ["--duration", f"{self.duration_s:g}"]
        return arguments + length


def keep_to(source: Source, data: Path) -> None:
    """Note what fills this data, the first time; after that allow nothing else.

    Raises:
        ConflictError: it is filled by another source: their ids would be gaps and conflicts.
    """
    note = data / "source.txt"
    if not note.exists():
        note.write_text(source.origin)
    elif (before := note.read_text()) != source.origin:
        raise ConflictError(
            f"{data} has trades of {before}, and these are of {source.origin}: choose another"
            " folder with K2_HOME, or remove this one"
        )


def check_pace(pace: str) -> None:
    """Refuse what is neither `max` nor a positive number.

    Raises:
        InvalidError: on `pace`.
    """
    try:
        good = pace == "max" or float(pace) > 0
    except ValueError:
        good = False
    if not good:
        raise InvalidError(f"no pace {pace!r}: {PACES}", field="pace")


def checked(path: Path) -> str:
    """Return the file's whole path.

    Raises:
        InvalidError: on `recording`, where it is not there.
    """
    if not path.is_file():
        raise InvalidError(f"there is no recording {path}", field="recording")
    return str(path.resolve())
