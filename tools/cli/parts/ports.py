"""Which loopback ports the parts of a running K2 take."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Self

from libs.market.errors import ExhaustedError
from libs.telemetry.ports import LOOPBACK, CannotListenError, free_port

ATTEMPTS = 20


class Ports:
    """Preferred ports where they are free, otherwise others; asked again, the same.

    A port is chosen before its service listens. What is chosen is claimed until `close`, so that
    another K2 that starts at the same moment takes another one.
    """

    def __init__(self) -> None:
        self._chosen: dict[int, int] = {}
        self._claims: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def address(self, preferred: int) -> str:
        """Return the address to use where `preferred` is the port it would best have.

        Raises:
            ExhaustedError: no port is free.
        """
        if preferred not in self._chosen:
            self._chosen[preferred] = self._choose(preferred)
        return f"{LOOPBACK}:{self._chosen[preferred]}"

    def close(self) -> None:
        """Give the claims back."""
        for claim in self._claims:
            claim.close()

    def _choose(self, preferred: int) -> int:
        for wanted in (preferred, *[0] * ATTEMPTS):
            port = _listenable(wanted)
            if port is not None and self._claim(port):
                return port
        raise ExhaustedError(f"no port is free on {LOOPBACK}")

    def _claim(self, port: int) -> bool:
        if sys.platform != "linux":
            return True
        claim = socket.socket(socket.AF_UNIX)
        try:
            # A name in no folder: the kernel forgets it with its process.
            claim.bind(f"\0k2-port-{port}")
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True


def _listenable(port: int) -> int | None:
    """Return the port where nobody listens on it; any free one for 0."""
    with suppress(CannotListenError):
        return free_port(f"{LOOPBACK}:{port}")
    return None
