"""A TCP proxy that can lose everything, as a network does that is cut, or be late with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 65_536
# Of one direction of one connection; more than a test ever has on its way.
CHUNKS_ON_THE_WAY = 10_000
Way = asyncio.Queue[tuple[float, bytes]]


class Proxy:
    """Passes on what comes to `address`; while `cut` nothing arrives, and nobody is told.

    Each chunk is under way for `slow_s`, in both directions, and none overtakes another.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self.slow_s = 0.0
        self._target = target
        self._cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._arriving: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self._cut = True

    def heal(self) -> None:
        """Let new connections through; the old ones have lost bytes and end."""
        self._cut = False
        self.end()

    def end(self) -> None:
        """Lose every connection, and what is under way on it."""
        for writer in self._open:
            writer.transport.abort()
        for arriving in self._arriving:
            arriving.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        with suppress(OSError, asyncio.IncompleteReadError):
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            ends = {writer, far_writer}
            self._open |= ends
            try:
                await asyncio.gather(
                    self._pass_on(reader, far_writer), self._pass_on(far_reader, writer)
                )
            finally:
                self._open -= ends
                for end in ends:
                    end.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way: Way = asyncio.Queue(CHUNKS_ON_THE_WAY)
        arriving = asyncio.create_task(self._arrive(way, writer))
        self._arriving.add(arriving)
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await self._send(way, chunk)
            await self._send(way, b"")
            await asyncio.wait({arriving})
        finally:
            self._arriving.discard(arriving)
            arriving.cancel()

    async def _send(self, way: Way, chunk: bytes) -> None:
        await way.put((asyncio.get_running_loop().time() + self.slow_s, chunk))

    async def _arrive(self, way: Way, writer: asyncio.StreamWriter) -> None:
        """Write each chunk when it is due; the empty one is the end."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                due_s, chunk = await way.get()
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if not chunk:
                    break
                if not self._cut:
                    writer.write(chunk)
                    await writer.drain()
        if not self._cut:
            writer.close()


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """Run a proxy to an address while the body runs."""
    one = Proxy(target)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    one.address = f"{host}:{port}"
    try:
        yield one
    finally:
        server.close()
        one.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await server.wait_closed()
