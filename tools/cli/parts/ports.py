"""Which loopback ports the parts of a running K2 take."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Self

from libs.telemetry.ports import LOOPBACK, CannotListenError, claim, free_port, lasting_port


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
        for claimed in self._claims:
            claimed.close()

    def _choose(self, preferred: int) -> int:
        if _listenable(preferred) and (claimed := claim(preferred)) is not None:
            self._claims.append(claimed)
            return preferred
        return lasting_port()


def _listenable(port: int) -> bool:
    with suppress(CannotListenError):
        return free_port(f"{LOOPBACK}:{port}") == port
    return False
