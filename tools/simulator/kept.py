"""When a generated session began, kept in a file: an exchange started anew goes on with it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from libs.market.errors import CorruptError, InvalidError
from tools.simulator.generated import Plan

# To go on, all that came before is generated again: 750,000 trades a second of CPU.
MOST_TRADES_BEFORE = 20_000_000


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a session is made from, and its first moment."""

    seed: int
    symbols: int
    rate: float
    book_ticker: bool
    start_us: int


def began_us(file: Path, plan: Plan, now_us: int) -> int:
    """Return when the session of this plan began: as the file says, or now, and it says so then.

    It begins now where the file is of another session, or of one with too much behind it.

    Raises:
        CorruptError: the file is not one of these; InvalidError: it cannot be written.
    """
    kept = _read(file)
    if kept is None or kept != _of(plan, kept.start_us) or not _may_go_on(kept, now_us):
        kept = _of(plan, now_us)
        _write(file, kept)
    return kept.start_us


def _of(plan: Plan, start_us: int) -> Kept:
    return Kept(plan.seed, plan.symbols, plan.rate, plan.book_ticker, start_us)


def _may_go_on(kept: Kept, now_us: int) -> bool:
    passed_s = (now_us - kept.start_us) / 1e6
    return 0 <= passed_s * kept.rate <= MOST_TRADES_BEFORE


def _read(file: Path) -> Kept | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        text = f"{file} does not say when the exchange's session began ({error}); remove it"
        raise CorruptError(text, path=file) from error


def _write(file: Path, kept: Kept) -> None:
    fresh = file.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.json.encode(kept))
        fresh.replace(file)
    except OSError as error:
        raise InvalidError(f"{file} cannot be kept: {error.strerror}", field="keep") from error
