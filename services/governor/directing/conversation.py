"""One open Control stream: what its process says, and when it applied what it was told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from k2.governor.v1 import governor_pb2 as pb

from libs.degradation.messages import Acknowledgement, Directive, Report
from libs.degradation.protocol import acknowledgement_from_pb, directive_to_pb, report_from_pb
from libs.market.errors import InvalidError, UnavailableError
from libs.runtime.mailbox import MailboxClosedError
from services.governor.deciding.crossings import Crossing
from services.governor.directing.pusher import Send
from services.governor.metrics import APPLIED_SECONDS, APPLY_SECONDS, PUSHES
from services.governor.observing.collector import Acknowledged, Closed, ReportCollector, Reported
from services.governor.published import Published


class Conversation:
    """Passes on to the collector what one stream brings, in order."""

    def __init__(
        self,
        stream: int,
        first: Report,
        collector: ReportCollector,
        crossing: Published[Crossing | None],
    ) -> None:
        self._stream, self._first, self._collector = stream, first, collector
        self._crossing, self._answered = crossing, crossing.value
        self._newest = (0, 0)
        self._sent_at_s: float | None = None

    async def open(self) -> None:
        await self._collector.tell(Reported(self._stream, self._first))

    async def close(self) -> None:
        with suppress(MailboxClosedError):
            await self._collector.tell(Closed(self._stream, self._first.process))

    async def hear(self, requests: AsyncIterator[pb.ControlRequest]) -> None:
        """Take in all that follows the first report."""
        async for request in requests:
            if request.HasField("acknowledgement"):
                await self._acknowledged(acknowledgement_from_pb(request.acknowledgement))
            else:
                report = _of(self._first.process, report_of(request))
                await self._collector.tell(Reported(self._stream, report))

    def sender(self, write: Callable[[pb.ControlResponse], Awaitable[None]]) -> Send:
        """Send directives, within their TTL or not at all."""

        async def send(directive: Directive) -> None:
            self._note(directive)
            response = pb.ControlResponse(directive=directive_to_pb(directive))
            try:
                async with asyncio.timeout(directive.ttl_s):
                    await write(response)
            except TimeoutError as error:
                text = f"{self._first.process} takes no directives"
                raise UnavailableError(text) from error
            PUSHES.inc()

        return send

    def _note(self, directive: Directive) -> None:
        this = (directive.epoch, directive.sequence)
        if this != self._newest:
            self._newest, self._sent_at_s = this, time.monotonic()

    async def _acknowledged(self, said: Acknowledgement) -> None:
        if (said.epoch, said.sequence) == self._newest and self._sent_at_s is not None:
            APPLY_SECONDS.observe(time.monotonic() - self._sent_at_s)
            self._sent_at_s = None
        crossed = self._crossing.value
        if crossed is not None and crossed is not self._answered and crossed.answered_by(said):
            self._answered = crossed
            if crossed.group == self._first.own.consumer_group:
                APPLIED_SECONDS.observe(time.monotonic() - crossed.at_s)
        await self._collector.tell(Acknowledged(self._first.process, said))


async def with_deadline(
    requests: AsyncIterator[pb.ControlRequest], ttl_s: float
) -> AsyncIterator[pb.ControlRequest]:
    """Pass requests on while each comes within a TTL: a stopped process keeps its sockets.

    Raises:
        UnavailableError: one did not.
    """
    while True:
        try:
            async with asyncio.timeout(ttl_s):
                request = await anext(requests, None)
        except TimeoutError as error:
            raise UnavailableError(f"the process reported nothing for {ttl_s:g} s") from error
        if request is None:
            return
        yield request


def report_of(request: pb.ControlRequest | None) -> Report:
    """Read the report in a request.

    Raises:
        InvalidError: there is none, or it makes no sense.
    """
    if request is None or not request.HasField("report"):
        raise InvalidError("a stream begins with a report and goes on with them", field="report")
    return report_from_pb(request.report)


def _of(process: str, report: Report) -> Report:
    if report.process != process:
        text = f"this stream is {process}'s, not {report.process}'s"
        raise InvalidError(text, field="report.process")
    return report
