"""The ledger for whoever asks, beside the commits: a commit that waits holds up no answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from libs.lake.ledger.store import ledger_location, read
from libs.lake.table.catalog import Lake
from libs.lake.table.tables import TRADES
from libs.market.errors import NotFoundError, UnavailableError
from services.writer.messages import HeadLedger

READ_TIMEOUT_S = 15.0


class LedgerReader:
    """Reads ledgers of market.trades in a thread of its own."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def ledger(self, snapshot_id: int | None = None) -> HeadLedger:
        """Return the head's ledger, or that of the snapshot named.

        Raises:
            NotFoundError: there is no such snapshot (any more).
            MissingLedgerError: its ledger is gone.
            UnavailableError: the catalog or the store does not answer.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await loop.run_in_executor(self._thread, ledger_at, self._lake, snapshot_id)
        except TimeoutError as error:
            raise UnavailableError(f"no ledger within {READ_TIMEOUT_S:g} s") from error

    def release(self) -> None:
        self._thread.shutdown(wait=False)


def ledger_at(lake: Lake, snapshot_id: int | None = None) -> HeadLedger:
    """Return the ledger of the head, or of the snapshot named. Blocking.

    Raises:
        NotFoundError, MissingLedgerError, MissingSeamError, UnavailableError
    """
    table = lake.load_table(TRADES)
    head = table.metadata.current_snapshot()
    wanted = snapshot_id or (head.snapshot_id if head else 0)
    if not wanted:
        return HeadLedger()
    if table.metadata.snapshot_by_id(wanted) is None:
        raise NotFoundError(f"snapshot {wanted} is not in the table", snapshot_id=wanted)
    return HeadLedger(wanted, read(table.io, ledger_location(table.metadata, wanted)))
