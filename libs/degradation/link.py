"""A process's stream to a governor, as the agent uses it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from libs.degradation.messages import Acknowledgement, Directive, Report
from libs.market.errors import K2Error
from libs.runtime.mailbox import Mailbox


class GovernorStream(Protocol):
    """One open Control stream; both methods raise K2Error where it breaks."""

    async def send(self, message: Report | Acknowledgement) -> None: ...

    async def receive(self) -> Directive: ...


Connect = Callable[[str], AbstractAsyncContextManager[GovernorStream]]


async def send_all(stream: GovernorStream, outbox: Mailbox[Report | Acknowledgement]) -> None:
    while True:
        await stream.send(await outbox.get())


def first_of(errors: BaseExceptionGroup[K2Error]) -> K2Error:
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def over_grpc(address: str) -> AbstractAsyncContextManager[GovernorStream]:
    # Imported late: a process without a governor loads no stubs, and tests none.
    from libs.degradation.stream import open_stream

    return open_stream(address)
