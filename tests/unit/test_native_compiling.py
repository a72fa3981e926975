from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

import pytest

from libs.native import compiling

NOT_C = (sys.executable, "-c", "raise SystemExit(1)")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compile into a folder of this test's, with no compiler but the system's."""
    monkeypatch.setattr(compiling, "BUILT", tmp_path / "built")
    monkeypatch.setattr(compiling, "ZIG", NOT_C)
    return tmp_path / "built"


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_what_is_compiled_loads_and_leaves_nothing_beside_it(built: Path) -> None:
    """Both loops are in one file, named by what it was made of."""
    path = compiling.compile_all()

    assert path == compiling.compiled_path()
    assert list(built.iterdir()) == [path]
    library = ctypes.CDLL(str(path))
    assert library.k2_trades
    assert library.k2_records


def test_without_a_compiler_nothing_is_compiled(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing fails: the columns' way is there."""
    monkeypatch.setenv("CC", "no-such-compiler")

    assert compiling.compile_all() is None
    assert not compiling.compiled_path().exists()
    assert list(built.iterdir()) == []


def test_other_sources_are_another_file(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled of older sources is not what is loaded."""
    before = compiling.compiled_path()
    changed = built.parent / "trades.c"
    changed.write_text("/* other */")
    monkeypatch.setattr(compiling, "sources", lambda: [changed])

    assert compiling.compiled_path() != before
