"""What the writer tells the governor of its work. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from libs.degradation.messages import OwnReport
from services.writer.intake.consumer import PartitionView
from services.writer.intake.positions import Partition


def own_report(
    group: str, views: Collection[PartitionView], placed: frozenset[Partition], failures: int
) -> OwnReport:
    """Tell positions of what is placed alone: of the rest nobody knows yet where it is read on."""
    known = [view for view in views if view.partition in placed]
    return OwnReport(
        consumer_group=group,
        positions={view.partition: view.decoded for view in known},
        lag=lag_of(known) if len(known) == len(views) else None,
        commit_failures=failures,
        held=frozenset(view.partition for view in known if view.hold is not None),
    )


def lag_of(views: Iterable[PartitionView]) -> int | None:
    """Count what is not decoded yet of what is read; None while an end is not known.

    What a held partition waits with is left out: no level helps it, and it must not stop backfill.
    """
    lag = 0
    for view in views:
        if view.hold is None:
            if view.end is None:
                return None
            lag += max(0, view.end - view.decoded)
    return lag
