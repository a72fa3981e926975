"""Whether an answer may be believed: no trade twice, and no hole that it does not name. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

TWICE = "an answer repeats a trade"
NOT_COMPLETE = "an answer is called complete and is not"
NOT_NAMED = "an answer lacks something and does not say what"
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """The newest trades of a symbol, and what the answer says of itself.

    Ids of these sessions are contiguous, so a complete answer's are too, from the newest one down.
    """

    symbol: str
    ids: Sequence[int]
    complete: bool
    lacks: int = 0


def faults_of(answer: Answer) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an answer: the kind, and where."""
    for newer, older in pairwise(answer.ids):
        where = f"{answer.symbol}: {newer}, {older}"
        if older >= newer:
            yield TWICE, where
        if answer.complete and older != newer - 1:
            yield NOT_COMPLETE, where
    if not answer.complete and not answer.lacks:
        yield NOT_NAMED, answer.symbol


@dataclass(slots=True)
class Judgement:
    """What became of all questions, and every wrong answer."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        return self.outcomes["complete"] + self.outcomes["incomplete"]

    @property
    def wrong_answers(self) -> int:
        return sum(map(len, self.wrong.values()))

    def take(self, answer: Answer) -> None:
        """Count an answer, and note what is wrong with it."""
        self.outcomes["complete" if answer.complete else "incomplete"] += 1
        for kind, where in faults_of(answer):
            self.wrong.setdefault(kind, []).append(where)

    def refused(self, why: str) -> None:
        """Count a question that was not answered."""
        self.outcomes[why] += 1

    def sentences(self) -> list[str]:
        """Say what was wrong, a sentence a kind."""
        return [
            f"{kind}: {len(places)}, such as {'; '.join(places[:EXAMPLES])}"
            for kind, places in self.wrong.items()
        ]
