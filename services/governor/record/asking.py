"""Questions to the record, from Protobuf and back."""

from __future__ import annotations

from k2.governor.v1 import governor_pb2 as pb

from libs.market.errors import InvalidError
from libs.rpc.pages import decode_token, encode_token, page_size
from services.governor.record.history import Cursor, History
from services.governor.record.records import Kind
from services.governor.record.views import BY_NUMBER, record_to_pb

USUAL_RECORDS, MOST_RECORDS = 200, 1_000
USUAL_US = 600_000_000


async def list_records(
    history: History, request: pb.ListRecordsRequest, now_us: int
) -> pb.ListRecordsResponse:
    cursor = _cursor(request, now_us)
    most = page_size(request.page_size, default=USUAL_RECORDS, most=MOST_RECORDS)
    page = await history.page(cursor, _kinds(request), most)
    return pb.ListRecordsResponse(
        records=map(record_to_pb, page.records),
        next_page_token=encode_token(page.cursor) if page.cursor else "",
    )


async def explain_at(
    history: History, request: pb.ExplainRequest, now_us: int
) -> pb.ExplainResponse:
    """Answer from the record."""
    at_us = request.time.ToMicroseconds() if request.HasField("time") else now_us
    told = await history.told(at_us)
    return pb.ExplainResponse(
        explanation=told.sample.record.explanation,
        sample=record_to_pb(told.sample),
        changes=map(record_to_pb, told.changes),
    )


def _cursor(request: pb.ListRecordsRequest, now_us: int) -> Cursor:
    if request.page_token:
        return decode_token(request.page_token, Cursor)
    to_us = request.to_time.ToMicroseconds() if request.HasField("to_time") else now_us
    given = request.HasField("from_time")
    from_us = request.from_time.ToMicroseconds() if given else to_us - USUAL_US
    return Cursor(0, from_us, to_us)


def _kinds(request: pb.ListRecordsRequest) -> frozenset[Kind]:
    unknown = [kind for kind in request.kinds if kind not in BY_NUMBER]
    if unknown:
        raise InvalidError(f"kinds must be kinds of records, not {unknown[0]}", field="kinds")
    return frozenset(BY_NUMBER[kind] for kind in request.kinds)
