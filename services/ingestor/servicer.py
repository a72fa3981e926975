"""IngestorService: values to messages, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from k2.ingestor.v1 import ingestor_pb2, ingestor_pb2_grpc

from libs.rpc.pages import decode_token, encode_token, page_size
from services.ingestor.feeds import Feed, FeedState, Overview

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
        last_message_time=_time(feed.received_us) if feed.received_us else None,
        gaps=feed.gaps,
        missing_trades=feed.missing_trades,
        repeated_trades=feed.repeated_trades,
        recent_gaps=[
            ingestor_pb2.SequenceGap(first=gap.first, last=gap.last, seen_time=_time(gap.seen_us))
            for gap in feed.recent_gaps
        ],
    )


def _time(stamp_us: int) -> Timestamp:
    seconds, microseconds = divmod(stamp_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1_000)
