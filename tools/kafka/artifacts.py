"""Kafka's jars: had once by jgo, checked against jgo.lock.toml, used by every run."""

from __future__ import annotations

import hashlib
import os
import time
import tomllib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from libs.market.errors import CorruptError, UnavailableError
from libs.wire.filelock import exclusive

LOCK_FILE = Path(__file__).with_name("jgo.lock.toml")
_DOWNLOADS_AT_ONCE = 8
# A repository that hiccups is back soon.
PAUSES_S = (1.0, 5.0, 15.0)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked artifact."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where Maven's layout has it, below the repository's root."""
        folder = Path(*self.group.split("."), self.name, self.version)
        return folder / f"{self.name}-{self.version}.jar"


def locked_jars(lock_file: Path = LOCK_FILE) -> list[Jar]:
    """Read what jgo locked, in class path order."""
    locked = tomllib.loads(lock_file.read_text())["dependencies"]
    return [Jar(d["groupId"], d["artifactId"], d["version"], d["sha256"]) for d in locked]


def tools_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Say where tools are kept between runs: K2_TOOLS_DIR, or .k2/tools."""
    return Path(environ.get("K2_TOOLS_DIR", ".k2/tools")).absolute()


def ensure_jars(
    folder: Path, jars: list[Jar], progress: Progress, fetch: Callable[[Jar, Path], Path]
) -> list[Path]:
    """Return the jars' paths, fetching what is missing.

    Jars are gathered in a folder of another name, which is renamed once all are there and have
    their SHA-256: what was interrupted goes on where it stopped, and nobody sees half of it.
    Processes wait for each other.

    Raises:
        UnavailableError: a jar could not be fetched.
        CorruptError: what was fetched is not what was locked.
    """
    complete = folder / _digest(jars)
    if not complete.is_dir():
        with exclusive(folder / "download.lock"):
            if not complete.is_dir():
                partial = complete.with_suffix(".partial")
                _gather(partial, jars, progress, fetch)
                partial.rename(complete)
    return [complete / jar.path for jar in jars]


def fetch_with_jgo(jar: Jar, repository: Path) -> Path:
    """Download one jar, from the repositories of the user's jgo.conf where there is one."""
    # A quarter of a second to import, and needed once.
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    repositories = GlobalSettings.load().repositories or None
    maven = MavenContext(repo_cache=repository, remote_repos=repositories, timeout=30)
    artifact = maven.project(jar.group, jar.name).at_version(jar.version).artifact()
    return artifact.resolve()


def _digest(jars: list[Jar]) -> str:
    return hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:12]


def _gather(
    partial: Path, jars: list[Jar], progress: Progress, fetch: Callable[[Jar, Path], Path]
) -> None:
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        try:
            done = pool.map(lambda jar: _ensure(partial, jar, fetch), jars)
            for count, _ in enumerate(done, start=1):
                progress(count, len(jars))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _ensure(partial: Path, jar: Jar, fetch: Callable[[Jar, Path], Path]) -> None:
    """Have one jar with the locked bytes; a half of one, from an interrupted run, goes first."""
    path = partial / jar.path
    if path.exists() and _sha256(path) == jar.sha256:
        return
    path.unlink(missing_ok=True)
    _fetch(partial, jar, fetch)
    if _sha256(path) != jar.sha256:
        path.unlink()
        raise CorruptError(
            f"{jar.path.name} was downloaded with other bytes than jgo.lock.toml has"
            " (look at the repository it came from, then try again)",
            jar=jar.path.name,
        )


def _fetch(partial: Path, jar: Jar, fetch: Callable[[Jar, Path], Path]) -> None:
    for pause_s in (*PAUSES_S, None):
        try:
            fetch(jar, partial)
        except (RuntimeError, OSError) as error:
            (partial / jar.path).unlink(missing_ok=True)
            if pause_s is None:
                raise UnavailableError(
                    f"{jar.path.name} could not be downloaded (look at the network, then try"
                    f" again; what is there already is kept): {error}"
                ) from error
            time.sleep(pause_s)
        else:
            return


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
