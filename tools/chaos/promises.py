"""What K2 promises of a run, each held against what was seen. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from libs.degradation.level import Level
from libs.degradation.policy import Priority
from tools.chaos.answers import Judgement
from tools.cli.session.proof import Proof

LEAST_ANSWERS = 20
WAITS = tuple(priority for priority in Priority if priority is not Priority.CRITICAL)


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence, whether it held, and what was seen."""

    says: str
    held: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Of one class: records put off, and of these written since; rows in the table and produced."""

    shed: int = 0
    backfilled: int = 0
    stored: int = 0
    produced: int = 0


def rose_through_all(levels: Sequence[Level]) -> Promise:
    """Every level was shown."""
    missing = [level.name for level in Level if level not in levels]
    seen = path(levels)
    if missing:
        seen = f"never {', '.join(missing)}: {seen}"
    return Promise("the level rises through all five", not missing, seen)


def fell_one_by_one(levels: Sequence[Level]) -> Promise:
    """It comes back to NORMAL, and no step down is of more than one level."""
    leaps = [f"{a.name} to {b.name} at once" for a, b in pairwise(levels) if b < a - 1]
    back = bool(levels) and levels[-1] is Level.NORMAL
    seen = "; ".join(leaps) or path(levels)
    return Promise("it comes back to NORMAL, one level at a time", back and not leaps, seen)


def normal_in_the_end(levels: Sequence[Level]) -> Promise:
    """Whatever was shown meanwhile, it is NORMAL again."""
    return Promise(
        "the level is NORMAL in the end",
        bool(levels) and levels[-1] is Level.NORMAL,
        path(levels),
    )


def path(levels: Sequence[Level]) -> str:
    """Show levels one after the other."""
    return " > ".join(level.name for level in levels) or "no level was shown"


def deferred_and_written(deferred: Mapping[Priority, Deferred]) -> Iterator[Promise]:
    """Each class below critical was really put off, and all of it is written."""
    for priority in reversed(WAITS):
        yield _deferred(priority, deferred.get(priority, Deferred()))
    critical = deferred.get(Priority.CRITICAL, Deferred())
    yield Promise(
        "no critical trade ever waits",
        critical.shed == 0,
        f"{critical.shed:,} of {critical.produced:,} put off",
    )


def _deferred(priority: Priority, one: Deferred) -> Promise:
    held = 0 < one.shed <= one.backfilled and one.stored == one.produced
    seen = f"{one.shed:,} put off, {one.backfilled:,} written since"
    if one.stored != one.produced:
        seen += f"; the table has {one.stored:,} of {one.produced:,}"
    return Promise(f"{priority} trades are put off under load, and written afterwards", held, seen)


def nothing_owed(open_records: int) -> Promise:
    """Nothing waits any more."""
    return Promise("nothing waits in the end", open_records == 0, f"{open_records:,} records wait")


def certified(sentences: Mapping[str, str], lacking: Sequence[str]) -> Promise:
    """The certificate of every symbol is complete."""
    first = f": {lacking[0]}: {sentences[lacking[0]]}" if lacking else ""
    seen = f"{len(sentences) - len(lacking)} of {len(sentences)} symbols certified complete{first}"
    return Promise("the certificate says so too", not lacking and bool(sentences), seen)


def all_there(proof: Proof) -> Promise:
    """What was sent is what a query answers, digit by digit."""
    wrong = [symbol for symbol in proof.expected if not proof.holds_for(symbol)]
    sent = sum(one.count for one in proof.expected.values())
    answered = sum(one.rows for one in proof.answered.values())
    seen = f"{sent:,} sent, {answered:,} answered"
    if wrong:
        seen += f"; not equal: {', '.join(wrong[:5])}"
    return Promise("no trade is missing, twice or another", proof.passed, seen)


def never_wrong(judgement: Judgement) -> Promise:
    """No answer in all that time said what was not so."""
    sentences = judgement.sentences()
    outcomes = ", ".join(f"{n:,} {name}" for name, n in sorted(judgement.outcomes.items()))
    return Promise(
        "no answer meanwhile is wrong about what it lacks",
        not sentences and judgement.answers >= LEAST_ANSWERS,
        "; ".join(sentences) or outcomes or "nothing was asked",
    )
