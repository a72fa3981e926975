"""The deliverer: has Kafka take what waits, in order, and keeps the rest when it must end."""

from __future__ import annotations

import asyncio

import structlog

from libs.runtime.actor import Actor
from services.ingestor.delivering.backlog import Backlog, Portion
from services.ingestor.delivering.delivery import Delivery

log = structlog.get_logger()

# Asked to stop, Kafka has so long to take the rest before that goes to the spool.
LAST_CHANCE_S = 5.0


class Deliverer(Actor):
    """Moves portions of the backlog to Kafka; a file goes whole, and alone."""

    name = "deliverer"

    def __init__(self, backlog: Backlog, delivery: Delivery) -> None:
        self._backlog = backlog
        self._delivery = delivery
        self._in_hand: Portion | None = None
        self._stopping = asyncio.Event()

    @property
    def outstanding(self) -> int:
        """Records that Kafka may not have; never too few."""
        return self._backlog.waiting + self._delivery.unacknowledged

    async def start(self) -> None:
        await self._delivery.open()

    async def run(self) -> None:
        delivering = asyncio.create_task(self._deliver_all())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({delivering, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({delivering}, timeout=LAST_CHANCE_S)
            if delivering.done():
                delivering.result()
        finally:
            stopping.cancel()
            delivering.cancel()
            await asyncio.wait({delivering, stopping})
        if self._stopping.is_set():
            await self._keep_rest()

    async def stop(self) -> None:
        self._backlog.end()
        self._stopping.set()

    async def close(self) -> None:
        await self._delivery.close()

    async def _deliver_all(self) -> None:
        while await self._take():
            await self._deliver_in_hand()

    async def _take(self) -> bool:
        """Have a portion in hand: also the one that a failure interrupted."""
        if self._in_hand is not None:
            return True
        portion = await self._backlog.next()
        if portion is None:
            await self._delivery.flush()
            return False
        if portion.segment is not None:
            await self._delivery.flush()
        self._in_hand = portion
        self._delivery.add(portion.records)
        return True

    async def _deliver_in_hand(self) -> None:
        portion = self._in_hand
        await self._delivery.send()
        if portion is not None and portion.segment is not None:
            await self._delivery.flush()
            await self._backlog.forget(portion.segment)
        # With more waiting, Kafka acknowledges while the next one is handed over.
        elif not self._backlog.waiting:
            await self._delivery.settle(0)
        self._in_hand = None

    async def _keep_rest(self) -> None:
        """Leave what Kafka did not take for the next process; a file in hand is still there."""
        await self._delivery.close()
        in_file = self._in_hand is not None and self._in_hand.segment is not None
        # Outstanding until it is kept: what no disk takes must not count as being in Kafka.
        kept = await self._backlog.keep([] if in_file else self._delivery.untaken)
        self._delivery.forget_untaken()
        if kept or not self._backlog.idle:
            log.warning("kept_for_the_next_start", records=self._backlog.spooled_records)
        self._in_hand = None
