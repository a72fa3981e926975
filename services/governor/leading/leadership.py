"""Who leads, as one governor knows it. Pure; Kafka's transactional id decides, this only asks.

A governor leads from a claim that Kafka took in a transaction until a transaction of its own
fails. It pushes nothing but what a transaction has proven within the TTL: whoever took the
transactional id after that proof is obeyed before the TTL is over, or nobody is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# Shares of the TTL. Five records a TTL prove the leader alive; a standby that hears none of two
# takes over, early enough for all to be directed again before they go their own way.
RECORDS_PER_TTL = 5
LEAST_PATIENCE = 0.4
MOST_PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Leader:
    process: str
    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Leadership:
    """What one governor knows. `own_epoch` is the one it leads under; None: it stands by.

    `fresh` until the first claim: a governor that comes back under the name of the last leader
    need not wait for that one to fall silent. Nor need one that lost Kafka and still is the last
    that led, under `led_epoch`. `hindered`: why its last try to follow or to lead failed.
    """

    process: str
    patience_s: float
    leader: Leader | None = None
    heard_at_s: float = 0.0
    newest_epoch: int = 0
    own_epoch: int | None = None
    caught_up: bool = False
    fresh: bool = True
    led_epoch: int = 0
    hindered: str = ""

    @property
    def leading(self) -> bool:
        return self.own_epoch is not None

    @property
    def floor(self) -> int:
        """Lowest epoch that a new claim may have."""
        return self.newest_epoch + 1


@dataclass(frozen=True, slots=True)
class Proof:
    """A transaction that Kafka took: when it began, and what each process had said by then.

    `heard_ms` are the processes' own clocks: a directive that answers such a report holds for one
    TTL from there, however long it is under way and however long its sender sleeps.
    """

    began_s: float = float("-inf")
    heard_ms: Mapping[str, int] = field(default_factory=dict)

    def holds(self, ttl_s: float, now_s: float) -> bool:
        return now_s - self.began_s < ttl_s


def patience_s(ttl_s: float, draw: float) -> float:
    """Silence that a standby bears; `draw` from 0 to 1, so that two do not claim at once."""
    return ttl_s * (LEAST_PATIENCE + draw * (MOST_PATIENCE - LEAST_PATIENCE))


def heard(state: Leadership, leader: Leader, now_s: float, *, resigned: bool = False) -> Leadership:
    """Take in a record of the topic: whoever wrote it held the transactional id."""
    return replace(
        state,
        leader=None if resigned else leader,
        heard_at_s=now_s,
        newest_epoch=max(state.newest_epoch, leader.epoch),
    )


def obeyed(state: Leadership, epoch: int) -> Leadership:
    """Take in that a process has obeyed this epoch."""
    return state if epoch <= state.newest_epoch else replace(state, newest_epoch=epoch)


def caught_up(state: Leadership, now_s: float) -> Leadership:
    """Take in that the topic is read to its end: from now on silence means something."""
    return state if state.caught_up else replace(state, caught_up=True, heard_at_s=now_s)


def deaf(state: Leadership, because: str = "") -> Leadership:
    """Take in that the topic cannot be read, or that a transaction failed: lead no more."""
    hindered = because or state.hindered
    return replace(state, own_epoch=None, caught_up=False, leader=None, hindered=hindered)


def may_claim(state: Leadership, now_s: float) -> bool:
    if state.leading or not state.caught_up:
        return False
    if state.leader is None or state.leader.epoch == state.led_epoch:
        return True
    if state.fresh and state.leader.process == state.process:
        return True
    return now_s - state.heard_at_s >= state.patience_s


def claimed(state: Leadership, epoch: int, address: str) -> Leadership:
    """Take in that Kafka took the claim."""
    return replace(
        state,
        leader=Leader(state.process, address, epoch),
        own_epoch=epoch,
        newest_epoch=max(state.newest_epoch, epoch),
        fresh=False,
        led_epoch=epoch,
        hindered="",
    )


def outdated(state: Leadership) -> bool:
    """Say whether a process has obeyed as new an epoch as ours: the topic was made anew."""
    return state.own_epoch is not None and state.newest_epoch > state.own_epoch


def sees_leader(state: Leadership, now_s: float) -> bool:
    """Say whether somebody leads as far as this one can know."""
    if not state.caught_up or state.leader is None or may_claim(state, now_s):
        return state.leading
    return True
