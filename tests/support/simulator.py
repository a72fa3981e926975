"""The simulated exchange for tests: in this process, or as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import msgspec
import pytest
import websockets

from tools.simulator.faults import Fault
from tools.simulator.player import PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import Session
from tools.simulator.websocket import Limits

AS_FAST_AS_READ = PlayOptions(float("inf"), "nobody")
TIMEOUT_S = 60.0

ExchangeFactory = Callable[..., AbstractAsyncContextManager[Exchange]]


@asynccontextmanager
async def simulated_exchange(
    session: Session,
    *,
    play: PlayOptions = AS_FAST_AS_READ,
    limits: Limits | None = None,
    faults: Sequence[Fault] = (),
) -> AsyncIterator[Exchange]:
    """Serve a session on a free port, by default as fast as it is read and never unheard."""
    async with Exchange(session, play=play, limits=limits, faults=tuple(faults)) as exchange:
        yield exchange


@dataclass(frozen=True, slots=True)
class SimulatorProcess:
    """A simulator in a process of its own; `address` is host:port."""

    address: str
    process: asyncio.subprocess.Process

    @property
    def websocket_url(self) -> str:
        return f"ws://{self.address}"

    @property
    def http_url(self) -> str:
        return f"http://{self.address}"


SimulatorStart = Callable[..., AbstractAsyncContextManager[SimulatorProcess]]


@asynccontextmanager
async def simulator_process(*arguments: str) -> AsyncIterator[SimulatorProcess]:
    """Run `python -m tools.simulator` on a free port, ended by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tools.simulator", "--port", "0"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        greeting = (await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)).decode()
        yield SimulatorProcess(greeting.split("http://")[1].split("/")[0], process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), TIMEOUT_S)


@pytest.fixture
def start_simulator() -> SimulatorStart:
    """A function that runs a simulator process with the given options."""
    return simulator_process


def combined_url(exchange: Exchange | SimulatorProcess, streams: Sequence[str]) -> str:
    return f"ws://{exchange.address}/stream?streams={'/'.join(streams)}"


def connected(url: str) -> websockets.connect:
    """Connect a client that never stops reading, so that it always sees the end.

    It asks for no pong: that comes after all that was sent before, which may take long.
    """
    return websockets.connect(url, max_size=None, max_queue=None, ping_interval=None)


async def receive(url: str, count: int) -> list[bytes]:
    """Connect, and return the first `count` messages."""
    async with connected(url) as connection:
        return [await next_message(connection) for _ in range(count)]


async def next_message(connection: websockets.ClientConnection) -> bytes:
    return await asyncio.wait_for(connection.recv(decode=False), TIMEOUT_S)


async def ask(connection: websockets.ClientConnection, request: bytes | str) -> object:
    """Send a request and return the decoded answer to it."""
    await connection.send(request)
    return msgspec.json.decode(await next_message(connection))


async def get(
    exchange: Exchange | SimulatorProcess, path: str, **headers: str
) -> tuple[int, object, dict[str, str]]:
    """Return status, decoded body and headers of a REST answer."""
    url = f"http://{exchange.address}{path}"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.get(url, headers=named) as a,
    ):
        return a.status, msgspec.json.decode(await a.read()), dict(a.headers)


async def post(
    exchange: Exchange | SimulatorProcess, path: str, body: object
) -> tuple[int, object]:
    """Return status and decoded body of what was posted."""
    url = f"http://{exchange.address}{path}"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    data = msgspec.json.encode(body)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.post(url, data=data) as a:
        return a.status, msgspec.json.decode(await a.read())


def messages(session: Session) -> list[bytes]:
    """Return what a session sends, without the times."""
    return [message for _, message in session]
