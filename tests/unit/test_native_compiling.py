from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

import pytest

from libs.native import compiling, library

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


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_what_other_sources_were_compiled_to_goes(built: Path) -> None:
    """What another system compiled in the same tree stays."""
    built.mkdir()
    elsewhere = built / "k2-0123456789abcdef-darwin-arm64.so"
    for path in (built / f"k2-0123456789abcdef-{compiling.HERE_RUNS}", elsewhere):
        path.write_bytes(b"older")

    made = compiling.compile_all()

    assert set(built.iterdir()) == {elsewhere, made}


def test_a_compiler_without_libc_compiles_too(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its headers are missing: the first try fails, and the next does without."""
    compiler = built.parent / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *freestanding*) echo > "$9";; *) exit 1;; esac\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} -w")

    assert compiling.compile_all() == compiling.compiled_path()


def test_a_compiler_that_hangs_is_none(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set-up goes on."""
    monkeypatch.setattr(compiling, "TIMEOUT_S", 0.1)

    assert not compiling.succeeds(("sleep", "600"))


def test_where_nothing_can_be_written_set_up_goes_on(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what that costs."""
    monkeypatch.setattr(compiling, "BUILT", built.parent / "missing" / "built")

    compiling.main()

    assert "nothing can be written" in capsys.readouterr().err


@pytest.mark.parametrize("held", [None, b"of another system"])
def test_what_does_not_load_is_as_if_it_were_not_there(
    held: bytes | None, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree may be shared by systems, or none of it be allowed to run."""
    path = built.parent / "k2.so"
    if held is not None:
        path.write_bytes(held)
    monkeypatch.setattr(library, "compiled_path", lambda: path)

    assert library.loaded.__wrapped__() is None
