"""Where `k2` begins."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command; Ctrl-C ends it without a word."""
    try:
        # Half a second of imports, and Ctrl-C in it is Ctrl-C too.
        from tools.cli.application import run

        run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
