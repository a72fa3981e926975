"""Where to look for the governor that leads. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Search:
    """The addresses of all governors, and where to try next: one of them, or where one pointed.

    `tried` counts those that failed since the last rest.
    """

    addresses: tuple[str, ...]
    at: int = 0
    pointed_to: str = ""
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
    have the search run in a circle.
    """
    if leader and leader != search.address and not search.pointed_to:
        return replace(search, pointed_to=leader)
    after = (search.at + 1) % len(search.addresses)
    return replace(search, at=after, pointed_to="", tried=search.tried + 1)


def rested(search: Search) -> Search:
    return replace(search, tried=0)
