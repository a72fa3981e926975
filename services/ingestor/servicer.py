"""IngestorService: values to messages, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from k2.ingestor.v1 import ingestor_pb2, ingestor_pb2_grpc

from libs.rpc.pages import decode_token, encode_token, page_size
from libs.rpc.times import timestamp, timestamp_or_unset
from services.ingestor.feeds import Feed, FeedState, IntakeView, Overview, WaitingView

NAME = "k2.ingestor.v1.IngestorService"
DEFAULT_PAGE, MOST_PAGE = 1_000, 10_000

_STATES = {state: ingestor_pb2.FeedState.Value(f"FEED_STATE_{state}") for state in FeedState}


class IngestorServicer(ingestor_pb2_grpc.IngestorServiceServicer):
    """Answers from what `overview` returns at the moment of the call."""

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self._overview = overview

    async def ListFeeds(  # noqa: N802 (the IDL's name)
        self,
        request: ingestor_pb2.ListFeedsRequest,
        context: grpc.aio.ServicerContext[  # noqa: ARG002 (the interface)
            ingestor_pb2.ListFeedsRequest, ingestor_pb2.ListFeedsResponse
        ],
    ) -> ingestor_pb2.ListFeedsResponse:
        """Page through the feeds by symbol."""
        size = page_size(request.page_size, default=DEFAULT_PAGE, most=MOST_PAGE)
        after = decode_token(request.page_token, str) if request.page_token else ""
        overview = self._overview()
        feeds = [
            feed
            for feed in sorted(overview.feeds, key=lambda feed: feed.symbol)
            if feed.symbol > after and request.exchange in ("", feed.exchange)
        ]
        return ingestor_pb2.ListFeedsResponse(
            feeds=[_message(feed) for feed in feeds[:size]],
            next_page_token=_next_token(feeds, size),
            reconnects=overview.reconnects,
            malformed_frames=overview.malformed_frames,
            spool=_spool(overview.waiting),
            healing=_healing(overview),
            intake=_intake(overview.intake),
        )


def _next_token(feeds: Sequence[Feed], size: int) -> str:
    return encode_token(feeds[size - 1].symbol) if len(feeds) > size else ""


def _message(feed: Feed) -> ingestor_pb2.Feed:
    return ingestor_pb2.Feed(
        exchange=feed.exchange,
        symbol=feed.symbol,
        state=_STATES[feed.state],
        trades=feed.trades,
        trades_per_second=feed.trades_per_second,
        last_sequence=feed.last_sequence,
        last_message_time=timestamp_or_unset(feed.received_us),
        gaps=feed.gaps,
        missing_trades=feed.missing_trades,
        repeated_trades=feed.repeated_trades,
        recent_gaps=[
            ingestor_pb2.SequenceGap(
                first=gap.first,
                last=gap.last,
                seen_time=timestamp(gap.seen_us),
                open_because=because,
            )
            for gap, because in feed.open_gaps
        ],
        healed_trades=feed.healed_trades,
        venue_hole_ids=feed.venue_holes,
    )


def _spool(waiting: WaitingView) -> ingestor_pb2.Spool:
    return ingestor_pb2.Spool(
        memory_records=waiting.memory_records,
        spooled_records=waiting.spooled_records,
        spooled_bytes=waiting.spooled_bytes,
        most_bytes=waiting.most_bytes,
        full_because=waiting.full_because,
        kafka_silent=Duration(seconds=int(waiting.kafka_silent_s)),
    )


def _healing(overview: Overview) -> ingestor_pb2.Healing:
    feeds, healing = overview.feeds, overview.healing
    return ingestor_pb2.Healing(
        enabled=healing.enabled,
        open_gaps=sum(len(feed.open_gaps) for feed in feeds),
        missing_trades=sum(feed.missing_trades for feed in feeds),
        healed_trades=sum(feed.healed_trades for feed in feeds),
        venue_hole_ids=sum(feed.venue_holes for feed in feeds),
        requests=healing.requests,
        used_weight=healing.used_weight,
        most_weight=healing.most_weight,
        waits_because=healing.waits_because,
    )


def _intake(intake: IntakeView) -> ingestor_pb2.Intake:
    return ingestor_pb2.Intake(
        taking=intake.taking,
        stops=intake.stops,
        discarded_messages=intake.discarded_messages,
        memory_level=intake.memory_level,
    )
