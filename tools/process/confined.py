"""Become a command in a cgroup: run as a script with the cgroup's cgroup.procs, and the command.

It goes in before the command starts, so that all of its memory is counted there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(procs: Path, command: list[str]) -> None:
    procs.write_text(str(os.getpid()))
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
