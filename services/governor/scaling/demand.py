"""How many writers are wanted, as a scaler asks for it. Pure."""

from __future__ import annotations

from libs.market.errors import InvalidError, NotFoundError, UnavailableError
from services.governor.deciding.govern import Standing
from services.governor.deciding.replicas import Scale
from services.governor.observing.flow import Flow


def desired_writers(standing: Standing, group: str) -> int:
    """Say how many a group asks for; an empty name is the only group there is.

    Raises:
        NotFoundError, InvalidError: no such group is watched, or it must be named.
        UnavailableError: no writer was seen yet. While lag cannot be read the last number stands.
    """
    name = _named(standing, group)
    scale = standing.scales.get(name, Scale())
    if not scale.known:
        raise UnavailableError("no writer has come since the governor began to lead", group=name)
    return scale.desired


def is_active(standing: Standing, group: str) -> bool:
    """Say whether there is something to write: lag, or something that comes.

    Raises:
        NotFoundError, InvalidError, UnavailableError: as above; lag was not read yet.
    """
    name = _named(standing, group)
    if name not in standing.ladders:
        raise UnavailableError("lag has not been read since the governor began to lead", group=name)
    rates = standing.flows.get(name, Flow()).rates
    # Without a rate, who can say that nothing comes?
    return standing.groups[name].lag > 0 or rates is None or rates.produced > 0


def _named(standing: Standing, group: str) -> str:
    known = ", ".join(sorted(standing.groups))
    if not group and len(standing.groups) > 1:
        text = f"scalerMetadata.consumerGroup must name one of {known}"
        raise InvalidError(text, field="scalerMetadata.consumerGroup")
    name = group or next(iter(standing.groups), "")
    if standing.groups and name not in standing.groups:
        raise NotFoundError(f"no group {name} is watched, but {known}", group=name)
    return name
