"""Which streams a connection asks for, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from services.ingestor.parsing.symbols import trade_stream

# Binance takes 1024 streams a connection; servers refuse a request line of 8 KiB.
MAX_STREAMS = 1024
MAX_URL_CHARACTERS = 6000
# Keeps a request well under a kilobyte's worth of frames; five a second may be sent.
STREAMS_A_REQUEST = 200
REQUEST_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Streams:
    """The URL to connect to, and the requests to send once connected, in order."""

    url: str
    requests: tuple[str, ...]


def trade_streams(exchange_url: str, symbols: Sequence[str], time_unit: str) -> Streams:
    """Subscribe to `symbols` in the URL as far as it goes, and by SUBSCRIBE beyond."""
    base = f"{exchange_url.rstrip('/')}/stream?timeUnit={time_unit}&streams="
    names = [trade_stream(symbol) for symbol in symbols]
    in_url = _leading(names, MAX_URL_CHARACTERS - len(base))
    return Streams(base + "/".join(names[:in_url]), tuple(_requests(names[in_url:])))


def shards(symbols: Sequence[str]) -> list[Sequence[str]]:
    """Split symbols over connections."""
    return [symbols[i : i + MAX_STREAMS] for i in range(0, len(symbols), MAX_STREAMS)]


def _leading(names: Sequence[str], characters: int) -> int:
    """Count the names that fit, each with its separator."""
    for count, name in enumerate(names):
        characters -= len(name) + 1
        if characters < 0:
            return count
    return len(names)


def _requests(names: Sequence[str]) -> Iterator[str]:
    for number, start in enumerate(range(0, len(names), STREAMS_A_REQUEST), start=1):
        params = names[start : start + STREAMS_A_REQUEST]
        request = {"method": "SUBSCRIBE", "params": params, "id": number}
        yield msgspec.json.encode(request).decode()
