"""Become a command that the kernel kills when its owner dies.

Run as a script, with the owner's pid and the command. It is a process of its own, and no hook
between fork and exec, because Python code there can deadlock in an owner with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(owner_pid: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner_pid:
            sys.exit("the owner died before its command started")
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
