"""Addresses to listen on, and one clear sentence where that fails."""

from __future__ import annotations

import errno
import socket

from libs.market.errors import InvalidError, K2Error

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535


class CannotListenError(K2Error):
    """The address cannot be listened on: in use, not ours, or not allowed."""

    reason = "CANNOT_LISTEN"
    code = "FAILED_PRECONDITION"

    def __init__(self, address: str, cause: OSError) -> None:
        super().__init__(f"cannot listen on {address}: {_remedy(cause)}", address=address)
        self.address = address


def split_address(address: str) -> tuple[str, int]:
    """Split host:port; without a host it is the loopback.

    Raises:
        InvalidError: on `address`, where it is not host:port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise InvalidError(f"{address!r} is not host:port", field="address")
    return host or LOOPBACK, int(port)


def free_port(address: str) -> int:
    """Listen and let go; return the port, for port 0 the one that was free.

    Raises:
        CannotListenError: with the reason and what to do.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # Linux lets two sockets bind with SO_REUSEADDR; only one may listen.
            probe.listen(1)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CannotListenError(address, error) from error


def _remedy(cause: OSError) -> str:
    if cause.errno == errno.EADDRINUSE:
        return (
            "it is in use; stop the process that has it, or choose another address "
            "(port 0 takes a free one)"
        )
    if cause.errno == errno.EACCES:
        return "ports below 1024 need privileges; choose another port"
    reason = cause.strerror or str(cause)
    return f"{reason.lower()}; choose an address of this machine"
