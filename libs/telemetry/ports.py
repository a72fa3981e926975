"""Addresses to listen on, and one clear sentence where that fails."""

from __future__ import annotations

import errno
import random
import socket
import sys
from contextlib import suppress
from pathlib import Path

from libs.market.errors import ExhaustedError, InvalidError, K2Error

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535
# From the kernel's own range it gives ports to whoever connects somewhere: to nobody below it.
KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
KERNELS_FIRST_PORT = 32_768
LEAST_PORT = 12_000
ATTEMPTS = 200


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


def lasting_port() -> int:
    """Return a port of the loopback for who listens there later, and there again when restarted.

    Nobody is given it by chance meanwhile: neither by the kernel nor by this function, as long as
    this process runs.

    Raises:
        ExhaustedError: all that were tried are taken.
    """
    for _ in range(ATTEMPTS):
        port = random.randrange(LEAST_PORT, _kernels_first_port())  # noqa: S311 (no secret)
        if not _listened_on(port) and (claimed := claim(port)) is not None:
            # The kernel takes it back when this process ends.
            claimed.detach()
            return port
    raise ExhaustedError(f"no port is free on {LOOPBACK}")


def claim(port: int) -> socket.socket | None:
    """Keep a port from every other K2 until the socket is closed; None: another one has it."""
    claimed = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            # A name in no folder: the kernel forgets it with its process.
            claimed.bind(f"\0k2-port-{port}")
    except OSError:
        claimed.close()
        return None
    return claimed


def _kernels_first_port() -> int:
    try:
        first = int(KERNELS_RANGE.read_text().split()[0])
    except OSError:
        return KERNELS_FIRST_PORT
    return first if first > 2 * LEAST_PORT else KERNELS_FIRST_PORT


def _listened_on(port: int) -> bool:
    with suppress(CannotListenError):
        return not free_port(f"{LOOPBACK}:{port}")
    return True


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
