"""What a query reads: one immutable object, published whole.

A query takes one reference and keeps it to its end; chunks and files that no state in use refers to
are freed by the last reference going.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from pyiceberg.table import Table

from libs.lake.files.index import SnapshotIndex
from libs.lake.ledger.ledger import EMPTY_LEDGER, Ledger
from libs.market.errors import UnavailableError
from services.query.completeness.missing import (
    ANOTHER_LOG,
    LOG_UNREACHABLE,
    UNREADABLE_BATCH,
    MissingRange,
    Partition,
    missing,
    unread,
)
from services.query.completeness.undecoded import Undecoded, waiting, with_more
from services.query.offsets import Offsets, ahead, distance, each, furthest
from services.query.tail.tail import EMPTY_TAIL, Tail, committed


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot, and the tail from its seam on. Build it with `of` or `at_snapshot`."""

    index: SnapshotIndex
    tail: Tail
    # Upper bound of the rows, exclusive: the tail's end, or the seam where that is further.
    high: Offsets
    log_ends: Offsets = field(default_factory=dict)
    # Before the log's ends are known, nobody can say whether rows are missing.
    log_is_known: bool = False
    # The table as the catalog told it; None where there is none yet.
    table: Table | None = None
    # Partitions whose log is not the table's own: nothing more is read of them.
    refused: frozenset[Partition] = frozenset()
    # Partitions whose next record batch cannot be read.
    unreadable: frozenset[Partition] = frozenset()
    # False while Kafka does not tell the end of the log: then there may be rows we know nothing of.
    log_is_reached: bool = True
    # What of the log between the seam and `high` is not here.
    absent: tuple[MissingRange, ...] = ()
    # What of the log is here and no row, nor in the dead letters yet.
    undecoded: Undecoded = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        index: SnapshotIndex,
        tail: Tail,
        log_ends: Offsets,
        table: Table | None = None,
        *,
        before: Ledger = EMPTY_LEDGER,
    ) -> State:
        left = committed(tail, index.seam, index.ledger, before)
        high = furthest(index.seam, left.high)
        return cls(index, left, high, log_ends, table=table).told(reached=True)

    @classmethod
    def at_snapshot(cls, index: SnapshotIndex, log_ends: Offsets) -> State:
        """Return what was committed with one snapshot: no tail, and nothing past its seam."""
        return cls(index, EMPTY_TAIL, index.seam, log_ends, log_is_known=True)

    def committed(self, index: SnapshotIndex, table: Table | None) -> State:
        """Return the state of a new head: what it has of the tail leaves the tail."""
        state = State.of(index, self.tail, self.log_ends, table, before=self.index.ledger)
        same_log = replace(state, refused=self.refused, unreadable=self.unreadable)
        return same_log.told(reached=self.log_is_reached).knowing(self.undecoded)

    def knowing(self, undecoded: Undecoded) -> State:
        """Return the state with records that are no rows, those that no commit has settled."""
        if not undecoded:
            return self
        waits = waiting(undecoded, self.seam, self.index.ledger)
        return replace(self, undecoded=with_more(self.undecoded, waits))

    def grown(self, tail: Tail, log_ends: Offsets) -> State:
        """Return the same snapshot with a tail that has more, cut at the seam already."""
        high = furthest(self.seam, tail.high)
        grown = replace(self, tail=tail, high=high, log_ends=log_ends)
        return grown.told(reached=self.log_is_reached)

    def told(self, *, reached: bool) -> State:
        """Return the state with or without an end of the log that Kafka tells."""
        unreached = () if reached else [(bound.topic, bound.partition) for bound in each(self.high)]
        absent = (
            *unread(self.high, self.refused, ANOTHER_LOG),
            *unread(self.high, self.unreadable, UNREADABLE_BATCH),
            *missing(self.seam, self.high, self.tail.covered),
            *unread(self.high, unreached, LOG_UNREACHABLE),
        )
        return replace(
            self,
            absent=absent,
            log_is_known=reached and bool(self.log_ends),
            log_is_reached=reached,
        )

    def refusing(self, refused: frozenset[Partition], tail: Tail) -> State:
        """Return the state with partitions whose log is another one, and what is left to them."""
        return replace(self, refused=refused).grown(tail, self.log_ends)

    def reading_all_but(self, unreadable: frozenset[Partition]) -> State:
        """Return the state with the partitions that the tail cannot read on."""
        return replace(self, unreadable=unreadable).told(reached=self.log_is_reached)

    @property
    def seam(self) -> Offsets:
        return self.index.seam

    @property
    def behind_log(self) -> int:
        return distance(self.high, self.log_ends)

    def below(self, ceiling: Offsets) -> State:
        """Return the same rows with a lower upper bound."""
        return replace(self, high=ceiling).told(reached=self.log_is_reached)

    def received_by(self, offsets: Offsets) -> State:
        """Return the rows below offsets at or below the seam: nothing of the log is asked for."""
        return replace(
            self,
            high=offsets,
            absent=(),
            log_is_known=True,
            log_is_reached=True,
            refused=frozenset(),
            unreadable=frozenset(),
        )

    def reaches(self, offsets: Offsets) -> bool:
        """Say whether every row below these offsets can be in this state."""
        return not ahead(offsets, self.high)


class Board:
    """Where the newest state hangs. For one event loop."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._changed: asyncio.Future[None] | None = None

    @property
    def state(self) -> State:
        """Return the newest state.

        Raises:
            UnavailableError: nothing is published yet.
        """
        if self._state is None:
            raise UnavailableError("the query service is still reading the catalog and the log")
        return self._state

    @property
    def published(self) -> State | None:
        return self._state

    def publish(self, state: State) -> None:
        self._state = state
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    async def changed(self, since: State) -> State:
        """Wait for a state other than `since`."""
        while self.state is since:
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)
        return self.state

    async def reaching(self, offsets: Offsets, *, timeout_s: float) -> State:
        """Wait for a state that has every row below these offsets.

        Raises:
            UnavailableError: none within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                state = self.state
                while not state.reaches(offsets):
                    state = await self.changed(state)
                return state
        except TimeoutError as error:
            raise UnavailableError(
                "the query service has not yet read as far as the page before; try again",
                retry_after_s=timeout_s,
            ) from error
