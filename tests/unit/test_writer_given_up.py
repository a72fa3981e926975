"""What the committer gives up for another reason than its table is said in the log."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from libs.market.errors import CorruptError, K2Error
from services.writer.commits.committer import StoppingError, answer_with


async def failing(error: K2Error) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "step", "said"),
    [
        (CorruptError("half a file"), "commit", ["half a file"]),
        (CorruptError("half a file"), "", []),
        (StoppingError("stopped"), "commit", []),
    ],
)
async def test_a_step_given_up_is_said(error: K2Error, step: str, said: list[str]) -> None:
    """Whoever asked may wait no more; a read has somebody to tell, a stop is no failure."""
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with capture_logs() as logs:
        await answer_with(reply, failing(error), step=step)
    assert reply.exception() is error
    assert [line["error"] for line in logs] == said
