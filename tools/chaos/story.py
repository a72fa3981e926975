"""What happened in a run, in the order in which it did. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an event is of."""

    SETTING = "setting"
    HARM = "harm"
    LEVEL = "level"
    SEEN = "seen"
    PROMISE = "promise"
    VERDICT = "verdict"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; `facts` are its numbers."""

    at_s: float
    kind: Kind
    text: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Story:
    """The events of a run; `tell` hears of each at once."""

    scenario: str
    clock: Callable[[], float]
    tell: Callable[[Event], None] = field(default=lambda _: None)
    events: list[Event] = field(default_factory=list)
    step: str = ""

    def note(self, kind: Kind, text: str, **facts: object) -> None:
        """Write an event down, and tell of it."""
        event = Event(self.clock(), kind, text, facts)
        self.events.append(event)
        self.tell(event)

    def began(self, step: str) -> float:
        """Return when a step began; the end of time where it never did."""
        times = (event.at_s for event in self.events if event.text == step)
        return next(times, float("inf"))

    def begins(self, step: str) -> None:
        """Say what is done from now on."""
        self.step = step
        self.note(Kind.HARM, step)
