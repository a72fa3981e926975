"""All that maintenance may ever delete, deleted now: by a clock that is ahead."""

from __future__ import annotations

from pyiceberg.table import Table

from libs.lake.maintenance.expiry import Expirer
from libs.lake.maintenance.orphans import DAY_S, OrphanRemover
from libs.lake.maintenance.retention import Retention
from libs.lake.table.catalog import Lake
from libs.lake.table.tables import TRADES
from libs.market.clock import SystemClock

DAYS_AHEAD = 3


class ClockAhead(SystemClock):
    """The system's clock, days ahead."""

    def now_us(self) -> int:
        return super().now_us() + int(DAYS_AHEAD * DAY_S * 1_000_000)


def sweep(lake: Lake) -> Table:
    """Delete the files of forgotten snapshots, then every orphan; return the table."""
    clock = ClockAhead()
    expirer = Expirer(lake, TRADES, retention=Retention(), file_grace_s=0, clock=clock)
    list(expirer.sweep())
    remover = OrphanRemover(lake, TRADES, clock=clock)
    list(remover.delete(remover.find().files))
    return lake.load_table(TRADES)
