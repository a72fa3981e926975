"""A value that one actor replaces and anyone may read or wait for."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Published(Generic[T]):
    """An immutable object, published atomically; readers take a reference and keep it."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._next: asyncio.Future[None] | None = None

    @property
    def value(self) -> T:
        return self._value

    def publish(self, value: T) -> None:
        self._value = value
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def changed_since(self, seen: T, timeout_s: float) -> T:
        """Wait until the value is another object than `seen`, at most so long; return it."""
        if self._value is seen:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._next], timeout=timeout_s)
        return self._value
