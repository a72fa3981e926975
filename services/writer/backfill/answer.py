"""What is owed, as GetBackfill answers it."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from k2.writer.v1 import backfill_pb2 as pb

from services.writer.backfill.backfiller import BackfillView
from services.writer.backfill.plan import Debt, Times, state_of


def answer_of(writer: str, view: BackfillView) -> pb.GetBackfillResponse:
    """Show what this writer's own partitions owe."""
    own = [debt for debt in view.debts if debt.position in view.times.assigned]
    return pb.GetBackfillResponse(
        writer=writer,
        ranges=[range_of(debt, view.times) for debt in own],
        records_per_s=view.records_per_s,
        remaining=remaining(own, view.records_per_s),
        backfilled_records=view.records,
        spared_topics=sorted(view.spared),
        stopped_because=view.stopped_because,
    )


def range_of(debt: Debt, times: Times) -> pb.OpenRange:
    shed = debt.shed
    return pb.OpenRange(
        topic=debt.position.topic,
        partition=debt.position.partition,
        start_offset=shed.start,
        end_offset=shed.end,
        classes=shed.classes,
        policy=shed.policy,
        symbols=len(shed.symbols),
        records=shed.records,
        age=seconds(debt.age_s),
        retention_used=debt.used,
        state=state_of(debt, times),
    )


def remaining(debts: list[Debt], records_per_s: float) -> Duration | None:
    records = sum(debt.shed.records for debt in debts)
    return seconds(records / records_per_s) if records and records_per_s else None


def seconds(number: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(number * 1000))
    return duration
