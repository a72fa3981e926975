"""Orders for the memory that a process under test holds."""

from __future__ import annotations

from pathlib import Path

# Of this even a writer at work takes less than SOFT, and with this ballast more than all of it.
LIMIT_MIB = 512
BALLAST_MIB = 500


def hold(fault_dir: Path, process: str, mib: int = BALLAST_MIB, *, keep: bool = False) -> None:
    """Have a process hold so much; with `keep`, until it ends."""
    fault_dir.mkdir(parents=True, exist_ok=True)
    beside = fault_dir / f"{process}.ballast-new"
    beside.write_text(f"{mib}{' keep' if keep else ''}\n")
    beside.replace(fault_dir / f"{process}.ballast")


def let_go(fault_dir: Path, process: str) -> None:
    """Order nothing any more: what is kept is not taken again by the next process."""
    (fault_dir / f"{process}.ballast").unlink(missing_ok=True)
