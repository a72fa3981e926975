"""Plays a session to the connections: at its pace, held while nobody listens, with its faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from libs.market.clock import Clock
from tools.simulator.chunk import Chunk, Form
from tools.simulator.connection import ChunkFrames, Connection, Stretch
from tools.simulator.history import History
from tools.simulator.injector import Injector
from tools.simulator.session import Session
from tools.simulator.timeline import Timeline

Hold: TypeAlias = Literal["never", "nobody", "missing"]
# Some 350 KB: enough to make a write worth its while, little enough to stop soon.
_MOST_MESSAGES_A_WRITE = 2_048
# The event loop's timers are no finer than the first.
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.001, 0.05


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """`hold` says when the session stands still.

    `never`: it runs on once begun; `nobody`: while no stream of it is subscribed; `missing`: while
    any trade stream of it is not subscribed. `eager` begins without waiting for a subscriber. What
    was received before `from_ns` has passed already: REST knows it, and nobody is sent it.
    """

    pace: float = 1.0
    hold: Hold = "never"
    eager: bool = False
    most_history_trades: int = 1_000_000
    from_ns: int = 0


class Player:
    """Advances the session; all connections get each message before the next stretch is read."""

    def __init__(
        self,
        session: Session,
        options: PlayOptions,
        connections: dict[int, Connection],
        injector: Injector,
        clock: Clock,
    ) -> None:
        self.session = session
        self.options = options
        self.connections = connections
        self.injector = injector
        self.history = History(session.symbols, options.most_history_trades)
        self.started = options.eager
        self.paused = False
        self.done = False
        self.session_ns = session.span_ns[0]
        self.trades_sent = 0
        self._clock = clock
        self._timeline = Timeline(options.pace)
        self._changed = asyncio.Event()
        self._anchored = False
        self._is_trade = np.array([s.endswith("@trade") for s in session.streams], np.bool_)

    async def run(self) -> None:
        """Play to the end of the session."""
        with ThreadPoolExecutor(1, thread_name_prefix="session") as executor:
            async for frames in self._chunks(executor):
                self.history.begin(frames.chunk.trades)
                await self._play(frames)
        self.done = True

    def changed(self) -> None:
        """Say that connections, subscriptions or the state have changed."""
        self._changed.set()

    def start(self) -> None:
        """Begin, or go on after a pause."""
        self.started, self.paused = True, False
        self.changed()

    def pause(self) -> None:
        self.paused = True

    @property
    def playing(self) -> bool:
        return self.started and not self.paused and not self.done and self._heard

    async def _chunks(self, executor: ThreadPoolExecutor) -> AsyncIterator[ChunkFrames]:
        """Read and frame one chunk ahead, in a thread: it must not hold up what is due."""
        loop = asyncio.get_running_loop()
        chunks = self.session.chunks()
        coming = loop.run_in_executor(executor, _read, chunks, self._forms())
        while (frames := await coming) is not None:
            coming = loop.run_in_executor(executor, _read, chunks, self._forms())
            yield frames

    def _forms(self) -> set[Form]:
        if self.session_ns < self.options.from_ns:
            return set()
        return {connection.subscriptions.form for connection in self.connections.values()}

    async def _play(self, frames: ChunkFrames) -> None:
        chunk = frames.chunk
        position = self._passed_before(chunk)
        while position < len(chunk):
            await self.injector.inject_due(self.history.passed)
            await self._until_playing(int(chunk.received_ns[position]))
            end = self._end_of_stretch(chunk, position)
            if end > position:
                await self._send(frames, position, end)
                position = end
            else:
                await self._wait_for(int(chunk.received_ns[position]))

    def _passed_before(self, chunk: Chunk) -> int:
        """Let pass what an earlier run of this exchange had to send."""
        passed = int(np.searchsorted(chunk.received_ns, self.options.from_ns))
        if passed:
            self.history.advance(int(np.searchsorted(chunk.trades.message, passed)))
            self.session_ns = int(chunk.received_ns[passed - 1])
        return passed

    async def _until_playing(self, session_ns: int) -> None:
        """Wait while the session is not to advance, then go on from this moment of it."""
        while not self.playing:
            self._anchored = False
            self._changed.clear()
            self.started = self.started or self._heard
            if not self.playing:
                await self._changed.wait()
        if not self._anchored:
            self._timeline.anchor(session_ns, self._clock.monotonic_s())
            self._anchored = True

    @property
    def _heard(self) -> bool:
        if self.options.hold == "never" and self.started:
            return True
        listened = [c.wanted(self.session.streams) for c in self.connections.values() if c.is_open]
        if not listened:
            return False
        heard = np.logical_or.reduce(listened)
        if self.options.hold == "missing":
            return bool(np.all(heard | ~self._is_trade))
        return bool(np.any(heard))

    def _end_of_stretch(self, chunk: Chunk, position: int) -> int:
        due = self._timeline.due_until(chunk.received_ns, self._clock.monotonic_s())
        end = min(due, position + _MOST_MESSAGES_A_WRITE)
        fault_at = self.injector.plan.next_at()
        if fault_at is None:
            return end
        row = int(np.searchsorted(chunk.trades.message, position)) + fault_at - self.history.passed
        if not 0 < row <= len(chunk.trades):
            return end
        return min(end, int(chunk.trades.message[row - 1]) + 1)

    async def _wait_for(self, session_ns: int) -> None:
        wait_s = self._timeline.wait_s(session_ns, self._clock.monotonic_s())
        await asyncio.sleep(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))

    async def _send(self, frames: ChunkFrames, start: int, end: int) -> None:
        chunk = frames.chunk
        order, plain = np.arange(start, end), not self.injector.is_altering
        if not plain:
            order = self.injector.altered(
                order, chunk.trades, self.session.symbols, self.history.passed
            )
        self.history.advance(int(np.searchsorted(chunk.trades.message, end)))
        self.session_ns = int(chunk.received_ns[end - 1])
        stretch = Stretch(frames, order, plain)
        for connection in list(self.connections.values()):
            sent = connection.send(stretch, self.session.streams)
            self.trades_sent += int(np.count_nonzero(self._is_trade[chunk.stream[sent]]))
        for connection in list(self.connections.values()):
            await connection.drained()
        # A reader that keeps up never makes drain wait, and others must have their turn.
        await asyncio.sleep(0)


def _read(chunks: Iterator[Chunk], forms: Iterable[Form]) -> ChunkFrames | None:
    """Read the next chunk and render it as its readers of now want it."""
    chunk = next(chunks, None)
    if chunk is None:
        return None
    frames = ChunkFrames(chunk)
    for form in forms:
        frames.of(form)
    return frames
