"""Directives that come late, twice or from a governor that leads no more: a writer obeys none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2.governor.v1 import governor_pb2 as pb

from tests.support.governor import clear_override, set_override
from tests.support.governors import Pair, governors, leads
from tests.support.middleman import Middleman, between
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.writer import Writing, status

TTL_S = 6.0
SAY_EVERY_S = 0.5
SLOW_FALL = {"K2_GOVERNOR_COOLDOWN_S": "120"}


@pytest.fixture
def pair(writing: Writing, tmp_path: Path) -> Iterator[Pair]:
    """Give two governors of the writer's group."""
    env = SLOW_FALL | {
        "K2_GOVERNOR_TTL_S": f"{TTL_S:g}",
        "K2_GOVERNOR_GROUPS": f"group-{writing.topic}",
    }
    with governors(writing.bootstrap, writing.topic, tmp_path / "governors", env) as both:
        yield both


@pytest.mark.whole
async def test_old_words_are_refused_by_a_writer(writing: Writing, pair: Pair) -> None:
    """Of before the newest one, of a leader that was replaced, and to a process started anew."""
    first, second = pair.addresses
    await pair.second.serving()
    pair.second.pause()
    await leads(first)
    async with between(first) as middleman:
        with writing.writer(env={"K2_GOVERNOR_ADDRESS": middleman.address}) as writer:
            old = await raised_and_lowered(middleman, first)
            assert "stale" in await refusal(middleman, old)
            assert (await status(writer)).level == "NORMAL"

            pair.first.kill()
            pair.second.resume()
            middleman.governor = second
            epoch = (await leads(second, after=old.epoch)).directive.epoch
            await applied(middleman, epoch)
            assert "stale" in await refusal(middleman, old)
            assert (await status(writer)).level == "NORMAL"

            middleman.silent = True
            await started_anew(writer, middleman)
            held_since_s = time.monotonic()
            await eventually(lambda: time.monotonic() - held_since_s > TTL_S, what="a TTL passes")
            assert "it answers a report of" in await refusal(middleman, old)
            assert (await status(writer)).level == "NORMAL"

            known = len(middleman.answers)
            middleman.silent = False
            await applied(middleman, epoch, since=known)
    assert (old.epoch, old.sequence) in [(said.epoch, said.sequence) for said in middleman.answers]


async def raised_and_lowered(middleman: Middleman, governor: str) -> pb.Directive:
    """Have SOFT ordered, applied, and taken back; return that order."""
    await eventually(lambda: middleman.attached, what="the writer comes")
    await set_override(governor, pb.LEVEL_SOFT, "to be repeated")
    soft = await eventually(lambda: newest(middleman, pb.LEVEL_SOFT), what="SOFT ordered")
    await eventually(lambda: has_applied(middleman, soft), what="SOFT applied")
    await clear_override(governor)
    normal = await eventually(lambda: newest(middleman, pb.LEVEL_NORMAL, soft), what="NORMAL")
    await eventually(lambda: has_applied(middleman, normal), what="NORMAL applied")
    return soft


def newest(
    middleman: Middleman, level: pb.Level.ValueType, after: pb.Directive | None = None
) -> pb.Directive | None:
    """Return the newest directive, where it is of this level and later than another."""
    last = middleman.directives[-1] if middleman.directives else None
    if last is None or last.lag_level != level:
        return None
    return last if after is None or last.sequence > after.sequence else None


def has_applied(middleman: Middleman, directive: pb.Directive) -> bool:
    wanted = (directive.epoch, directive.sequence, "")
    return wanted in [(s.epoch, s.sequence, s.refused_because) for s in middleman.answers]


async def applied(middleman: Middleman, epoch: int, *, since: int = 0) -> None:
    """Wait until a directive of this epoch has been applied; the first `since` answers are old."""

    def so() -> bool:
        later = middleman.answers[since:]
        return any(said.epoch == epoch and not said.refused_because for said in later)

    await eventually(so, what=f"epoch {epoch} is applied")


async def refusal(middleman: Middleman, directive: pb.Directive) -> str:
    """Say a directive until it is answered, and return why it was refused."""
    known, this = len(middleman.answers), (directive.epoch, directive.sequence)

    def answered() -> list[pb.Acknowledgement]:
        middleman.say(directive)
        later = middleman.answers[known:]
        return [said for said in later if (said.epoch, said.sequence) == this]

    answers = await eventually(answered, what="the old word is answered", poll_s=SAY_EVERY_S)
    assert all(said.refused_because for said in answers), answers
    return answers[0].refused_because


async def started_anew(writer: Process, middleman: Middleman) -> None:
    streams = middleman.attached
    writer.kill()
    writer.restart()
    await writer.serving()
    await eventually(lambda: middleman.attached > streams, what="the writer comes again")
