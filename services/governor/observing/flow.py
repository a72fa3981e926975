"""How fast a log grows and its group decodes, over the last seconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from libs.degradation.level import Cause
from services.governor.observing.lag import GroupLag

# Long enough that a report's second does not matter.
WINDOW_S = 10.0
# What made a level rise shows in the seconds before.
LATELY_S = 3.0
# How long the usual takes to become what is.
USUAL_OVER_S = 300.0


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading; `whole` where live processes speak for all partitions."""

    at_s: float
    log_end: int
    lag: int
    whole: bool = True

    @property
    def decoded(self) -> int:
        return self.log_end - self.lag


@dataclass(frozen=True, slots=True)
class Rates:
    """Records a second."""

    produced: float
    decoded: float


@dataclass(frozen=True, slots=True)
class Flow:
    """The last seconds of one group; `usual` is what was produced while it was NORMAL."""

    moments: tuple[Moment, ...] = ()
    usual: float | None = None

    @property
    def rates(self) -> Rates | None:
        """Over the whole window; None before it is half full."""
        return self._since(WINDOW_S) if self._spans_s() >= WINDOW_S / 2 else None

    def why_rising(self) -> Cause | None:
        """Say what changed more of late, against the usual: what came, or what was decoded."""
        lately = self._since(LATELY_S)
        if lately is None or self.usual is None:
            return None
        reads = lately.decoded > 0
        came_more = reads and lately.produced * lately.decoded >= self.usual**2
        return Cause.INGRESS_BURST if came_more else Cause.SLOW_WRITER

    @property
    def whole(self) -> bool:
        """All that was decoded in the window was decoded by the processes that are known."""
        return all(moment.whole for moment in self.moments)

    @property
    def least_lag(self) -> int:
        """Over the window: the group has been behind by so much all the time."""
        return min((moment.lag for moment in self.moments), default=0)

    def _spans_s(self) -> float:
        return self.moments[-1].at_s - self.moments[0].at_s if self.moments else 0.0

    def _since(self, ago_s: float) -> Rates | None:
        if not self.moments:
            return None
        last = self.moments[-1]
        first = next(one for one in self.moments if last.at_s - one.at_s <= ago_s)
        elapsed_s = last.at_s - first.at_s
        if elapsed_s <= 0:
            return None
        produced, decoded = last.log_end - first.log_end, last.decoded - first.decoded
        return Rates(produced / elapsed_s, decoded / elapsed_s)


def on(flow: Flow, group: GroupLag, now_s: float, *, normal: bool) -> Flow:
    """Take a reading in. Rates begin anew where it is not known, or where the log is another."""
    if not group.known:
        return replace(flow, moments=())
    whole = all(partition.live for partition in group.partitions)
    moment = Moment(now_s, group.log_end, group.lag, whole)
    kept = [one for one in flow.moments if now_s - one.at_s <= WINDOW_S]
    if kept and kept[-1].log_end > moment.log_end:
        kept = []
    grown = replace(flow, moments=(*kept, moment))
    return replace(grown, usual=_usual(grown, flow)) if normal else grown


def _usual(flow: Flow, before: Flow) -> float | None:
    rates = flow.rates
    if rates is None or not before.moments:
        return flow.usual
    if flow.usual is None:
        return rates.produced
    elapsed_s = flow.moments[-1].at_s - before.moments[-1].at_s
    share = min(1.0, elapsed_s / USUAL_OVER_S)
    return flow.usual + (rates.produced - flow.usual) * share
