"""Whether an answer may be believed: no trade twice, and no hole that it does not name. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

TWICE = "an answer repeats a trade"
NOT_COMPLETE = "an answer is called complete and is not"
NOT_NAMED = "an answer lacks something and does not say what"
FIRST_GONE = "an answer is called complete and does not begin with the first trade"
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """Trades of a symbol, the newest first, and what the answer says of itself.

    Ids of these sessions are contiguous, so a complete answer's are too. `to_the_first`: what was
    asked for were the oldest trades.
    """

    symbol: str
    ids: Sequence[int]
    complete: bool
    lacks: int = 0
    to_the_first: bool = False

    @property
    def first_id(self) -> int | None:
        """The first id that it says there is."""
        return self.ids[-1] if self.ids and self.complete and self.to_the_first else None


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
    firsts: dict[str, int] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        return self.outcomes["complete"] + self.outcomes["incomplete"]

    @property
    def wrong_answers(self) -> int:
        return sum(map(len, self.wrong.values()))

    def take(self, answer: Answer) -> None:
        """Count an answer, and note what is wrong with it."""
        self.outcomes["complete" if answer.complete else "incomplete"] += 1
        for kind, where in (*faults_of(answer), *self._first_gone(answer)):
            self.wrong.setdefault(kind, []).append(where)

    def _first_gone(self, answer: Answer) -> Iterator[tuple[str, str]]:
        first = answer.first_id
        if first is not None:
            known = self.firsts.setdefault(answer.symbol, first)
            self.firsts[answer.symbol] = min(known, first)
            if first > known:
                yield FIRST_GONE, f"{answer.symbol}: {first}, and it was {known}"

    def refused(self, why: str) -> None:
        """Count a question that was not answered."""
        self.outcomes[why] += 1

    def sentences(self) -> list[str]:
        """Say what was wrong, a sentence a kind."""
        return [
            f"{kind}: {len(places)}, such as {'; '.join(places[:EXAMPLES])}"
            for kind, places in self.wrong.items()
        ]
