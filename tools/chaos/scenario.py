"""One run from start to verdict, whatever the harm is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.degradation.level import Level
from libs.market.errors import UnavailableError
from tools.chaos.aftermath import Findings, come_to_rest, found, tell
from tools.chaos.ground import Ground, Setting, standing
from tools.chaos.promises import Promise
from tools.chaos.scale import Scale
from tools.chaos.story import Kind, Story

REST_TIMEOUT_S = 60.0
# So many trades of the session are in before any harm, so that there is something to lose.
LEAST_RECORDS = 1_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done to K2, what must be so afterwards, and how its K2 is scaled."""

    name: str
    says: str
    harm: Callable[[Ground], Awaitable[None]]
    judged: Callable[[Ground, Findings], Iterator[Promise]]
    scale: Scale


class Show(Protocol):
    """Where a run is shown."""

    def starting(self, part: str) -> None: ...

    def look(self, ground: Ground) -> None: ...


async def play(
    scenario: Scenario,
    setting: Setting,
    story: Story,
    show: Show,
    in_the_end: Callable[[], Awaitable[None]],
) -> Sequence[Promise]:
    """Bring a K2 up, harm it, let it come to rest, and hold it to its promises.

    `in_the_end` is done before it is ended.

    Raises:
        K2Error: a part of it did not start, or did not stay up.
    """
    for sentence in (f"{scenario.name}: {scenario.says}", *setting.scale.sentences()):
        story.note(Kind.SETTING, sentence)
    async with standing(setting, story, on_step=show.starting, on_look=show.look) as ground:
        await at_rest(ground)
        broken = await harmed(scenario, ground)
        findings = await found(ground, await come_to_rest(ground))
        judged = [*broken, *scenario.judged(ground, findings)]
        await in_the_end()
        return [tell(ground, promise) for promise in judged]


async def at_rest(ground: Ground) -> None:
    """Wait until trades flow and the level is NORMAL."""
    ground.story.begins("waits until trades flow")
    await ground.until(
        lambda sight: sight.log_end > LEAST_RECORDS and sight.level is Level.NORMAL,
        REST_TIMEOUT_S,
        "trades flow at NORMAL",
    )


async def harmed(scenario: Scenario, ground: Ground) -> list[Promise]:
    """Do the harm; where something does not come in its time, that is a promise broken."""
    try:
        await scenario.harm(ground)
    except UnavailableError as error:
        return [Promise("everything comes in its time", held=False, seen=error.message)]
    return []


def verdict(story: Story, promises: Sequence[Promise]) -> bool:
    """Say how it ended; true where every promise held."""
    broken = [promise.says for promise in promises if not promise.held]
    text = f"not held: {'; '.join(broken)}" if broken else "every promise held"
    story.note(Kind.VERDICT, text, passed=not broken, broken=broken)
    return not broken
