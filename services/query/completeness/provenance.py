"""What an answer was computed from and what it lacks, as Protobuf."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from k2.query.v1 import query_pb2

from libs.lake.completeness.evidence import Finding
from libs.lake.ledger.gaps import EARLIEST_US, LATEST_US
from libs.rpc.times import timestamp
from services.query.completeness.certifying import Verdict
from services.query.offsets import Offsets
from services.query.state import State

MOST_LACKS = 100


def provenance(state: State, verdict: Verdict) -> query_pb2.Provenance:
    return query_pb2.Provenance(
        snapshot_id=state.index.snapshot_id or 0,
        seam=topic_offsets(state.seam),
        high=topic_offsets(state.high),
        behind_log=state.behind_log,
        complete=verdict.complete,
        lacks=[missing_range(lack) for lack in verdict.lacks[:MOST_LACKS]],
        lacks_total=len(verdict.lacks),
    )


def missing_range(finding: Finding) -> query_pb2.MissingRange:
    lack = query_pb2.MissingRange(
        reason=finding.why, detail=finding.detail, lacking=finding.lacking
    )
    if finding.position is not None and finding.offsets is not None:
        lack.topic, lack.partition = finding.position
        lack.start, lack.end = finding.offsets
    if finding.series is not None:
        lack.exchange, lack.asset_class, lack.symbol, lack.sequence_epoch = finding.series
    if finding.ids is not None:
        lack.first_id, lack.last_id = finding.ids
    set_time(lack.after_time, finding.after_us, unless=EARLIEST_US)
    set_time(lack.before_time, finding.before_us, unless=LATEST_US)
    set_time(lack.recorded_time, finding.at_us, unless=0)
    return lack


def set_time(field: Timestamp, time_us: int, *, unless: int) -> None:
    if time_us != unless:
        field.CopyFrom(timestamp(time_us))


def topic_offsets(offsets: Offsets) -> list[query_pb2.TopicOffsets]:
    return [
        query_pb2.TopicOffsets(topic=topic, offsets=partitions)
        for topic, partitions in offsets.items()
    ]
