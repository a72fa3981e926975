"""The middle of an ingestor: publisher, backlog and deliverer, around any Kafka."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from libs.market.clock import SystemClock
from libs.runtime.supervisor import Supervisor
from services.ingestor.delivering.backlog import Backlog
from services.ingestor.delivering.deliverer import Deliverer
from services.ingestor.delivering.delivery import Delivery, Producer
from services.ingestor.parsing.symbols import SymbolTable
from services.ingestor.publishing.book import SymbolPage, read_book
from services.ingestor.publishing.publisher import Destination, Publisher
from services.ingestor.spool.spool import Found, Spool
from tests.support.actors import WITHOUT_WAITING

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Middle:
    """What stands between sessions and Kafka; `found` is what an earlier one left."""

    publisher: Publisher
    deliverer: Deliverer
    backlog: Backlog
    spool: Spool
    found: Found

    def supervisor(self) -> Supervisor:
        return Supervisor([self.deliverer, self.publisher], policy=WITHOUT_WAITING)

    async def close(self) -> None:
        await self.publisher.write_last_page()
        await self.backlog.close()


async def middle(
    open_producer: Callable[[], Awaitable[Producer]],
    table: SymbolTable,
    folder: Path,
    *,
    most_bytes: int = 64 * MIB,
    spool_after_s: float = 1.0,
) -> Middle:
    """Put the parts together, as the ingestor's wiring does."""
    clock = SystemClock()
    delivery = Delivery(open_producer, clock=clock, on_acknowledged=lambda _, __: None)
    spool = Spool(folder, most_bytes, clock)
    backlog = Backlog(spool, silent_s=lambda: delivery.silent_s, spool_after_s=spool_after_s)
    deliverer = Deliverer(backlog, delivery)
    publisher = Publisher(
        table=table,
        destination=Destination("trades", "trades.dlq", schema_id=1),
        backlog=backlog,
        outstanding=lambda: deliverer.outstanding,
        book_dir=folder,
        clock=clock,
    )
    found = await backlog.open()
    publisher.resume(found.runs)
    return Middle(publisher, deliverer, backlog, spool, found)


def last_booked(folder: Path, symbol: str = "BTCUSDT") -> int:
    """Return the newest id that the book says is in Kafka; 0 where it says nothing."""
    return read_book(folder).get(symbol, SymbolPage(0)).last
