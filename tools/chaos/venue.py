"""`exchange`: the simulated exchange leaves out, doubles, cuts, delays, garbles, shuts down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tools.chaos import exchange, promises
from tools.chaos.aftermath import Findings, common
from tools.chaos.ground import Ground
from tools.chaos.promises import Promise
from tools.chaos.sights import Sight
from tools.chaos.story import Kind
from tools.simulator.faults import Fault

SEEN_TIMEOUT_S = 30.0
HEAL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Misdeed:
    """What the exchange does, and what shows that K2 has met it: two sights, before and now."""

    says: str
    fault: Fault
    met: Callable[[Sight, Sight], bool]


def more_received(before: Sight, now: Sight) -> bool:
    return now.received.trades > before.received.trades


MISDEEDS = (
    Misdeed(
        "leaves 40 trades out",
        Fault("skip", count=40),
        lambda before, now: (
            now.received.missing > before.received.missing
            or now.received.healed > before.received.healed
        ),
    ),
    Misdeed(
        "sends 60 trades twice",
        Fault("duplicate", count=60),
        lambda before, now: now.written.duplicates > before.written.duplicates,
    ),
    Misdeed(
        "cuts every connection",
        Fault("drop"),
        lambda before, now: (
            now.received.reconnects > before.received.reconnects and more_received(before, now)
        ),
    ),
    Misdeed(
        "sends six frames of garbage",
        Fault("malformed", count=6),
        lambda before, now: now.received.malformed > before.received.malformed,
    ),
    Misdeed("falls silent for 4 s", Fault("delay", seconds=4.0), more_received),
    Misdeed(
        "refuses REST, and leaves 20 trades out meanwhile",
        Fault("rate_limit", seconds=5.0),
        more_received,
    ),
    Misdeed("", Fault("skip", count=20), more_received),
    Misdeed(
        "announces that it shuts down, and does",
        Fault("shutdown", seconds=1.0),
        lambda before, now: (
            now.received.reconnects > before.received.reconnects and more_received(before, now)
        ),
    ),
)


async def harm(ground: Ground) -> None:
    """Have it misbehave in every way, and wait each time until K2 has met it."""
    for misdeed in MISDEEDS:
        await commit_one(ground, misdeed)
    ground.story.begins("waits until what was left out is fetched")
    await ground.until(
        lambda sight: sight.received.gaps_open == 0 and sight.received.healed > 0,
        HEAL_TIMEOUT_S,
        "every gap is healed",
    )
    did = await misdeeds_of(ground)
    told = ", ".join(f"{n} {kind}" for kind, n in did.items())
    ground.story.note(Kind.SEEN, f"did by its own account: {told}", did=dict(did))
    await ground.until_normal(SEEN_TIMEOUT_S)


async def commit_one(ground: Ground, misdeed: Misdeed) -> None:
    if misdeed.says:
        ground.story.begins(f"the exchange {misdeed.says}")
    before = ground.sight
    await exchange.inject(ground.exchange, misdeed.fault)
    await ground.until(
        lambda now: misdeed.met(before, now), SEEN_TIMEOUT_S, f"it is seen that it {misdeed.says}"
    )


async def misdeeds_of(ground: Ground) -> Counter[str]:
    """Count what the exchange says that it did wrong."""
    state = await exchange.faults_of(ground.exchange)
    return Counter(injected.kind for injected in state.injected)


def did_all(did: Mapping[str, int]) -> Promise:
    """Say whether the exchange did, by its own account, all that it was told to do."""
    told = Counter(misdeed.fault.kind for misdeed in MISDEEDS)
    missing = [f"{kind} is not" for kind, n in told.items() if did.get(kind, 0) < n]
    seen = "; ".join(missing) or f"{sum(did.values())} misdeeds"
    return Promise("the exchange did all of this", not missing, seen)


def judged(ground: Ground, findings: Findings) -> Iterator[Promise]:
    """Hold what was seen against what is promised."""
    told = (event.facts.get("did") for event in ground.story.events)
    yield did_all(next((did for did in told if isinstance(did, dict)), {}))
    received = findings.last.received
    yield Promise(
        "what was left out is fetched by REST",
        received.healed > 0 and received.gaps_open == 0,
        f"{received.healed:,} healed, {received.gaps_open} gaps open",
    )
    duplicates = findings.last.written.duplicates
    yield Promise("what came twice is dropped", duplicates > 0, f"{duplicates:,} dropped")
    yield promises.normal_in_the_end(ground.watch.levels.in_order)
    yield from common(ground, findings)
