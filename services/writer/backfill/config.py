"""How fast the writer works off what it put off."""

from __future__ import annotations

from pydantic import Field

from libs.runtime.config import ServiceConfig
from services.writer.backfill.plan import Limits


class BackfillConfig(ServiceConfig):
    """What backfill reads from K2_WRITER_BACKFILL_* variables."""

    backfill_records_per_s: float = Field(
        50_000.0,
        gt=0,
        validation_alias="K2_WRITER_BACKFILL_RECORDS_PER_S",
        description="most records that backfill reads of the log a second",
    )
    backfill_least_records_per_s: float = Field(
        5_000.0,
        gt=0,
        validation_alias="K2_WRITER_BACKFILL_LEAST_RECORDS_PER_S",
        description="so many at any level, once half of a topic's retention is used",
    )

    @property
    def backfill_limits(self) -> Limits:
        return Limits(self.backfill_records_per_s, self.backfill_least_records_per_s)
