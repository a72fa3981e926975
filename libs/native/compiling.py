"""Compiles the C beside it: `python -m libs.native.compiling`, as `make setup` does.

What was compiled carries the hash of its sources in its name, so that what is loaded is never
older than they are. It is done before the services start: they may stand on a read-only disk.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE / "built"
COMPILERS: tuple[tuple[str, ...], ...] = (("cc",), ("gcc",), ("clang",))
# Where libc's headers are missing: nothing of it is called but what Python has loaded already.
WITHOUT_LIBC = ("-ffreestanding", "-nostdlib")
# A compiler in a wheel, with headers, for where there is none.
ZIG = (sys.executable, "-m", "ziglang", "cc", "-nostdlib")
OPTIONS = ("-std=c11", "-O3", "-shared", "-fPIC")
# What ends the name of all that was compiled for this system.
HERE_RUNS = f"{sys.platform}-{platform.machine()}.so"
TIMEOUT_S = 300.0


def sources() -> list[Path]:
    return sorted(HERE.glob("*.c"))


def compiled_path() -> Path:
    """Say where the sources as they are now belong, compiled."""
    said = hashlib.sha256()
    for path in sorted((*HERE.glob("*.h"), *sources())):
        said.update(path.read_bytes())
    return BUILT / f"k2-{said.hexdigest()[:16]}-{HERE_RUNS}"


def compilers() -> Iterator[tuple[str, ...]]:
    """Yield what may compile C here: the one named, or the system's, then the one by pip."""
    named = tuple(shlex.split(os.environ.get("CC", "")))
    found = [each for each in ([named] if named else COMPILERS) if shutil.which(each[0])]
    yield from found
    yield from ((*each, *WITHOUT_LIBC) for each in found)
    yield ZIG


def compile_all() -> Path | None:
    """Compile with the first compiler that can; None where none can.

    Processes that do it at once do not harm each other: the file appears whole.
    """
    wanted = compiled_path()
    BUILT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as folder:
        made = Path(folder) / wanted.name
        for compiler in compilers():
            command = [*compiler, *OPTIONS, "-o", str(made), *map(str, sources())]
            if succeeds(command):
                made.replace(wanted)
                remove_older(wanted)
                return wanted
    return None


def remove_older(wanted: Path) -> None:
    """Remove what was compiled of other sources for this system; who has loaded it keeps it."""
    for path in BUILT.glob(f"k2-*-{HERE_RUNS}"):
        if path != wanted:
            path.unlink(missing_ok=True)


def succeeds(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> None:
    """Compile where that is not done yet, and say what came of it."""
    try:
        path = compiled_path() if compiled_path().exists() else compile_all()
    except OSError as error:
        sys.stderr.write(f"nothing can be written beside the sources: {error}\n")
        path = None
    if path is None:
        sys.stderr.write(
            "nothing is compiled: K2 works, and its writer takes a quarter more CPU a row\n"
        )


if __name__ == "__main__":
    main()
