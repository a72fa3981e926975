"""Where to look for the governor that leads. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Search:
    """The addresses of all governors, and where to try next: one of them, or where one pointed.

    `tried` counts those that failed since the last rest, and `lost` is the one before this.
    """

    addresses: tuple[str, ...]
    at: int = 0
    pointed_to: str = ""
    lost: str = ""
    tried: int = 0

    @classmethod
    def among(cls, addresses: str) -> Search:
        """Begin with a list, separated by commas."""
        return cls(tuple(address.strip() for address in addresses.split(",")))

    @property
    def address(self) -> str:
        return self.pointed_to or self.addresses[self.at]

    @property
    def rests(self) -> bool:
        """Say whether all have failed, so that it is time to wait."""
        return self.tried >= len(self.addresses)


def failed(search: Search, leader: str = "") -> Search:
    """Go on after a failure: to the leader that was named, or to the next in the list.

    Who was pointed to and does not lead either points nowhere: two that name each other would
    have the search run in a circle. Nor does one that points back to where no answer came from:
    a standby names the leader until it has been silent for long enough.
    """
    here = search.address
    if leader and leader not in (here, search.lost) and not search.pointed_to:
        return replace(search, pointed_to=leader, lost=here)
    after = (search.at + 1) % len(search.addresses)
    return replace(search, at=after, pointed_to="", lost=here, tried=search.tried + 1)


def rested(search: Search) -> Search:
    return replace(search, lost="", tried=0)
