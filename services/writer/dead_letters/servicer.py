"""DeadLetterService over gRPC."""

from __future__ import annotations

import asyncio

import grpc
from k2.writer.v1 import dead_letters_pb2 as pb
from k2.writer.v1 import dead_letters_pb2_grpc as pb_grpc

from libs.kafka.dead_letter_log import Wanted
from libs.kafka.dead_letters import DeadLetter, is_frame
from libs.kafka.topics import dead_letter_topic
from libs.market.errors import InvalidError, NotFoundError, UnavailableError
from libs.rpc.pages import encode_token, page_size
from libs.rpc.times import timestamp_or_unset
from libs.runtime.mailbox import Mailbox
from libs.wire.plain import fields_of
from services.writer.dead_letters.book import DeadLetterBook, Found
from services.writer.dead_letters.replay import what_to_do
from services.writer.dead_letters.replayer import Manner, Replayed, Replayer
from services.writer.intake.positions import Partition
from services.writer.messages import Resume, ToConsumer

SERVICE = pb.DESCRIPTOR.services_by_name["DeadLetterService"].full_name
DEFAULT_PAGE, LARGEST_PAGE = 100, 10_000
RESUME_TIMEOUT_S = 20.0


class DeadLetterServicer(pb_grpc.DeadLetterServiceServicer):
    """Lists, shows and replays; one replay at a time."""

    def __init__(
        self, book: DeadLetterBook, replayer: Replayer, consumer: Mailbox[ToConsumer]
    ) -> None:
        self._book = book
        self._replayer = replayer
        self._consumer = consumer
        self._replaying = asyncio.Lock()

    async def ListDeadLetters(  # noqa: N802
        self,
        request: pb.ListDeadLettersRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> pb.ListDeadLettersResponse:
        rows = page_size(request.page_size, default=DEFAULT_PAGE, most=LARGEST_PAGE)
        wanted = Wanted(request.reason, request.symbol, replayed=request.show_replayed)
        found = await self._book.find(request.topic, wanted)
        page, last = found.page(request.page_token, rows)
        listed = {
            letter.key.decode(): shown(topic, letter, found)
            async for topic, letter in self._book.letters(page)
        }
        return pb.ListDeadLettersResponse(
            dead_letters=[listed[place.key] for place in page if place.key in listed],
            next_page_token=encode_token(last) if last else "",
            total=len(found.places),
        )

    async def GetDeadLetter(  # noqa: N802
        self,
        request: pb.GetDeadLetterRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> pb.GetDeadLetterResponse:
        if not request.key:
            raise InvalidError("key is required: topic/partition/offset", field="key")
        found = await self._book.find("", Wanted(keys=frozenset({request.key}), replayed=True))
        async for topic, letter in self._book.letters(found.places[:1]):
            refused = (await self._replayer.judge(topic, [letter])).get(request.key, "")
            return pb.GetDeadLetterResponse(
                dead_letter=shown(topic, letter, found),
                raw=letter.raw,
                fields=fields_of(letter.raw),
                refused_because=refused,
                what_to_do=what_to_do(letter, topic, refused),
            )
        raise NotFoundError(f"there is no dead letter {request.key!r}", key=request.key)

    async def ReplayDeadLetters(  # noqa: N802
        self,
        request: pb.ReplayDeadLettersRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> pb.ReplayDeadLettersResponse:
        wanted = wanted_by(request)
        done = Replayed(Manner(request.dry_run, request.force))
        async with self._replaying:
            found = await self._book.find(request.topic, wanted)
            async for topic, letter in self._book.letters(found.places):
                await self._replayer.add(topic, letter, done)
            await self._replayer.finish(done)
        for key in sorted(wanted.keys - {place.key for place in found.places}):
            done.refuse(key, "there is no such dead letter")
        return pb.ReplayDeadLettersResponse(
            replayed=done.sent,
            refused=done.refused,
            refusals=[pb.RefusedReplay(key=k, reason=why) for k, why in done.refusals.items()],
        )

    async def ResumePartitions(  # noqa: N802
        self,
        request: pb.ResumePartitionsRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> pb.ResumePartitionsResponse:
        partition = request.partition if request.HasField("partition") else None
        reply: asyncio.Future[tuple[Partition, ...]] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(RESUME_TIMEOUT_S):
                await self._consumer.put(Resume(request.topic, partition, reply))
                resumed = await reply
        except TimeoutError as error:
            raise UnavailableError("the consumer did not answer; try again") from error
        return pb.ResumePartitionsResponse(
            partitions=[pb.ResumedPartition(topic=t, partition=p) for t, p in resumed]
        )


def wanted_by(request: pb.ReplayDeadLettersRequest) -> Wanted:
    """Say which letters to replay.

    Raises:
        InvalidError: none, or in more than one way.
    """
    if bool(request.keys) + bool(request.reason) + request.all != 1:
        raise InvalidError("say which: keys, or a reason, or all", field="keys")
    # Who names a key means it, also where it was replayed before.
    return Wanted(request.reason, keys=frozenset(request.keys), replayed=bool(request.keys))


def shown(topic: str, letter: DeadLetter, found: Found) -> pb.DeadLetter:
    key = letter.key.decode()
    is_record = not is_frame(letter, dead_letter_topic(topic))
    return pb.DeadLetter(
        key=key,
        topic=topic,
        partition=letter.partition if is_record else None,
        offset=letter.offset if is_record else None,
        reason=letter.reason,
        detail=letter.detail,
        symbol=letter.symbol,
        source=letter.source,
        time=timestamp_or_unset(letter.time_us),
        schema_id=letter.schema_id,
        size_bytes=letter.size_bytes or len(letter.raw),
        replayed_time=timestamp_or_unset(found.replayed_us.get(key, 0)),
    )
