"""How the writer keeps the table."""

from __future__ import annotations

from pydantic import Field

from libs.lake.maintenance.compaction import CompactionPolicy
from libs.lake.maintenance.orphans import LOWEST_AGE_S
from libs.lake.maintenance.retention import FORGOTTEN_AT_ONCE, Retention
from libs.lake.maintenance.upkeep import MaintenanceOptions
from libs.runtime.config import Bytes, ServiceConfig
from services.writer.maintenance.maintainer import Rhythm

MIB = 1024 * 1024


class MaintenanceConfig(ServiceConfig):
    """What maintenance reads from K2_WRITER_MAINTENANCE_* variables."""

    maintenance: bool = Field(
        default=True,
        validation_alias="K2_WRITER_MAINTENANCE",
        description="compact, expire and remove orphans; off where another tool does",
    )
    maintenance_interval_s: float = Field(
        30.0,
        gt=0,
        validation_alias="K2_WRITER_MAINTENANCE_INTERVAL_S",
        description="seconds between two looks at what is due",
    )
    maintenance_share: float = Field(
        0.5,
        gt=0,
        le=1,
        validation_alias="K2_WRITER_MAINTENANCE_SHARE",
        description="most that it takes of one core",
    )
    maintenance_target_bytes: Bytes = Field(
        Bytes(128 * MIB),
        ge=MIB // 64,
        validation_alias="K2_WRITER_MAINTENANCE_TARGET_BYTES",
        description="size of a compacted file on disk",
    )
    maintenance_merge_at: int = Field(
        16,
        ge=2,
        validation_alias="K2_WRITER_MAINTENANCE_MERGE_AT",
        description="so many files of a like size become one while their day is still written",
    )
    maintenance_grace_s: float = Field(
        3600.0,
        ge=0,
        validation_alias="K2_WRITER_MAINTENANCE_GRACE_S",
        description="a day is over so many seconds after its end",
    )
    maintenance_quiet_s: float = Field(
        600.0,
        ge=0,
        validation_alias="K2_WRITER_MAINTENANCE_QUIET_S",
        description="and is compacted once nothing has come for so many seconds",
    )
    maintenance_keep_snapshots: int = Field(
        20,
        ge=1,
        validation_alias="K2_WRITER_MAINTENANCE_KEEP_SNAPSHOTS",
        description="newest snapshots to keep, beside the tagged",
    )
    maintenance_keep_hours: int = Field(
        24,
        ge=0,
        validation_alias="K2_WRITER_MAINTENANCE_KEEP_HOURS",
        description="for so many hours the last snapshot of each is kept",
    )
    maintenance_file_grace_s: float = Field(
        7200.0,
        ge=0,
        validation_alias="K2_WRITER_MAINTENANCE_FILE_GRACE_S",
        description="files of a forgotten snapshot stay so long; longer than any query may take",
    )
    maintenance_orphan_age_s: float = Field(
        86_400.0,
        ge=LOWEST_AGE_S,
        validation_alias="K2_WRITER_MAINTENANCE_ORPHAN_AGE_S",
        description="files of no snapshot are deleted when so old; half as old, none is committed",
    )
    maintenance_orphan_interval_s: float = Field(
        21_600.0,
        gt=0,
        validation_alias="K2_WRITER_MAINTENANCE_ORPHAN_INTERVAL_S",
        description="seconds between two searches for orphans",
    )

    @property
    def maintenance_options(self) -> MaintenanceOptions:
        return MaintenanceOptions(
            CompactionPolicy(
                target_bytes=int(self.maintenance_target_bytes),
                merge_at=self.maintenance_merge_at,
                grace_us=int(self.maintenance_grace_s * 1e6),
                quiet_s=self.maintenance_quiet_s,
            ),
            self.retention,
            file_grace_s=self.maintenance_file_grace_s,
            orphan_age_s=self.maintenance_orphan_age_s,
        )

    @property
    def retention(self) -> Retention:
        newest = self.maintenance_keep_snapshots
        at_once = min(FORGOTTEN_AT_ONCE, newest)
        return Retention(newest=newest, hours=self.maintenance_keep_hours, at_once=at_once)

    @property
    def maintenance_rhythm(self) -> Rhythm:
        return Rhythm(
            enabled=self.maintenance,
            interval_s=self.maintenance_interval_s,
            orphan_interval_s=self.maintenance_orphan_interval_s,
            share=self.maintenance_share,
        )
