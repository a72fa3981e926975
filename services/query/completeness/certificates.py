"""CheckCompleteness: from its request to its answer."""

from __future__ import annotations

from dataclasses import dataclass

from k2.query.v1 import query_pb2

from libs.lake.completeness.certificate import Account, Certificate, sentence
from libs.lake.completeness.evidence import Finding, Why
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Series
from libs.market.errors import InvalidError
from libs.rpc.pages import page_size
from libs.rpc.times import timestamp
from services.query.completeness.provenance import missing_range, topic_offsets
from services.query.pages import HoleKey, HoleToken, hash_of, read_token
from services.query.requests import name_of, times_of

DEFAULT_HOLES = 1_000
MOST_HOLES = 10_000
MOST_HELD = 1_000
NO_SERIES = Series("", "", "", 0)
_RANK = {why: rank for rank, why in enumerate(Why)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a certificate is asked about, and which of its holes."""

    scope: Scope
    most: int
    query_hash: bytes
    after: HoleKey | None


def asked_of(request: query_pb2.CheckCompletenessRequest, now_us: int) -> Asked:
    """Read a request. Of what has not been yet nothing can be certified.

    Raises:
        InvalidError: on the field that makes no sense.
    """
    scope = scope_of(request)
    if scope.start_us > now_us:
        raise InvalidError("start_time lies in the future", field="start_time")
    query_hash = hash_of("CheckCompleteness", scope)
    token = read_token(request.page_token, query_hash, HoleToken)
    most = page_size(request.page_size, default=DEFAULT_HOLES, most=MOST_HOLES)
    return Asked(scope, most, query_hash, token.last if token else None)


def scope_of(request: query_pb2.CheckCompletenessRequest) -> Scope:
    if not request.symbol:
        raise InvalidError("symbol is required", field="symbol")
    times = times_of(request, "")
    first = request.first_id if request.HasField("first_id") else None
    last = request.last_id if request.HasField("last_id") else None
    if first is not None and last is not None and last < first:
        raise InvalidError("last_id is below first_id", field="last_id")
    return Scope(
        symbol=name_of(request.symbol, "symbol"),
        exchange=name_of(request.exchange, "exchange"),
        start_us=times.start_us,
        end_us=times.end_us,
        first_id=first,
        last_id=last,
    )


def response_of(
    certificate: Certificate, asked: Asked, *, behind_log: int
) -> query_pb2.CheckCompletenessResponse:
    """Write a certificate, and of its holes a page."""
    holes = sorted(certificate.findings, key=key_of)
    left = [hole for hole in holes if asked.after is None or key_of(hole) > asked.after]
    shown = left[: asked.most]
    token = HoleToken(asked.query_hash, key_of(shown[-1])).encode() if left[asked.most :] else ""
    return query_pb2.CheckCompletenessResponse(
        complete=certificate.complete,
        sentence=sentence(certificate),
        series=[held_series(account) for account in certificate.accounts],
        holes=[missing_range(hole) for hole in shown],
        holes_total=len(holes),
        next_page_token=token,
        snapshot_id=certificate.bounds.snapshot_id,
        seam=topic_offsets(certificate.bounds.seam),
        high=topic_offsets(certificate.bounds.high),
        behind_log=behind_log,
    )


def key_of(finding: Finding) -> HoleKey:
    """Place a finding among the others, the same in every state."""
    topic, partition = finding.position or ("", 0)
    start = finding.offsets.start if finding.offsets else 0
    first = finding.ids.first if finding.ids else 0
    return (_RANK[finding.why], finding.series or NO_SERIES, first, topic, partition, start)


def held_series(account: Account) -> query_pb2.HeldSeries:
    series = account.series
    return query_pb2.HeldSeries(
        exchange=series.exchange,
        asset_class=series.asset_class,
        symbol=series.symbol,
        sequence_epoch=series.epoch,
        stored_ids=account.stored_ids,
        tail_ids=account.tail_ids,
        duplicates=account.duplicates,
        held=[
            query_pb2.HeldIds(
                first_id=ids.first,
                last_id=ids.last,
                first_time=timestamp(ids.first_us),
                last_time=timestamp(ids.last_us),
            )
            for ids in account.held[:MOST_HELD]
        ],
        held_total=len(account.held),
    )
