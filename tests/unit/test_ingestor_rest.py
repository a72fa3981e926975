"""Missed trades by REST, from an exchange that does not do as it should."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from libs.market.errors import UnavailableError
from services.ingestor.healing.rest import PATH, Answer, TradesApi

ELSEWHERE = "/elsewhere"


class Exchange:
    """Does what `does` says, and keeps who came."""

    def __init__(self) -> None:
        self.does = "refuse"
        self.seen: list[tuple[str, str | None]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.path, request.headers.get("X-MBX-APIKEY")))
        if self.does == "redirect":
            raise web.HTTPFound(ELSEWHERE)
        status = 429 if self.does == "refuse" else 200
        head = {"Retry-After": "7", "Content-Length": "100"}
        cut = web.StreamResponse(status=status, headers=head)
        await cut.prepare(request)
        await cut.write(b"[")
        assert request.transport is not None
        request.transport.close()
        return cut


@pytest.fixture
async def exchange() -> AsyncIterator[tuple[Exchange, TradesApi]]:
    """Give an exchange, and who asks it with a key."""
    known = Exchange()
    app = web.Application()
    app.router.add_get(PATH, known.answer)
    app.router.add_get(ELSEWHERE, known.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    api = TradesApi(f"http://127.0.0.1:{port}", "MICROSECOND", "the key")
    await api.open()
    yield known, api
    await api.close()
    await runner.cleanup()


async def test_a_refusal_whose_text_is_cut_off_is_obeyed(
    exchange: tuple[Exchange, TradesApi],
) -> None:
    """Who went on would be banned."""
    _, api = exchange
    answer = await api.historical_trades("BTCUSDT", 1, 5)
    assert answer == Answer(429, retry_after_s=7, problem="429", for_all=True)


async def test_trades_that_are_cut_off_are_none(exchange: tuple[Exchange, TradesApi]) -> None:
    """A part of the answer would show holes that are none."""
    known, api = exchange
    known.does = "cut"
    with pytest.raises(UnavailableError, match="BTCUSDT"):
        await api.historical_trades("BTCUSDT", 1, 5)


async def test_the_key_goes_to_the_exchange_alone(exchange: tuple[Exchange, TradesApi]) -> None:
    """A redirection is not followed."""
    known, api = exchange
    known.does = "redirect"
    assert (await api.historical_trades("BTCUSDT", 1, 5)).status == 302
    assert known.seen == [(PATH, "the key")]
