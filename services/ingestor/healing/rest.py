"""Binance's REST API, as far as missed trades are to be had there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import msgspec
import numpy as np

from libs.market.errors import UnavailableError
from services.ingestor.parsing.columns import TradeColumns

PATH = "/api/v3/historicalTrades"
TIMEOUT_S = 10.0
MOST_ANSWER_BYTES = 4 * 1024 * 1024
USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"
MOST_TEXT = 200
# Binance: "the WAF Limit has been violated"; without a time to wait for.
NOT_FOUND, FIREWALL = 404, 403
KEY_WANTED = (-2014, -2015)


class RestTrade(msgspec.Struct, frozen=True, rename="camel", gc=False):
    id: int
    price: str
    qty: str
    time: int
    is_buyer_maker: bool
    is_best_match: bool = True


class _Problem(msgspec.Struct):
    code: int = 0
    msg: str = ""


_decode_trades = msgspec.json.Decoder(list[RestTrade]).decode


@dataclass(frozen=True, slots=True)
class Answer:
    """Status 200 brings trades, by rising id; `problem` says why another one does not.

    `for_all` where it says of this address that it must not ask for anything now, `for_any` where
    any symbol were refused as this one: the key, or the URL.
    """

    status: int
    trades: tuple[RestTrade, ...] = ()
    used_weight: int | None = None
    retry_after_s: float | None = None
    problem: str = ""
    for_all: bool = False
    for_any: bool = False


class TradesApi:
    """One HTTP session; `api_key` goes with each request where there is one."""

    def __init__(self, rest_url: str, time_unit: str, api_key: str | None) -> None:
        self._url = rest_url.rstrip("/") + PATH
        self._headers = {"X-MBX-TIME-UNIT": time_unit}
        if api_key is not None:
            self._headers["X-MBX-APIKEY"] = api_key
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._http = aiohttp.ClientSession(timeout=timeout, headers=self._headers)

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def historical_trades(self, symbol: str, from_id: int, limit: int) -> Answer:
        """Ask for trades from an id on (weight 25 of 6000 a minute).

        Raises:
            UnavailableError: nothing there answers as the exchange does.
        """
        if self._http is None:
            raise UnavailableError("the session is closed", url=self._url)
        asked = {"symbol": symbol, "fromId": str(from_id), "limit": str(limit)}
        try:
            # Elsewhere the key has no business.
            async with self._http.get(self._url, params=asked, allow_redirects=False) as response:
                return read(response.status, response.headers, await _body(response))
        except (TimeoutError, aiohttp.ClientError, msgspec.MsgspecError) as error:
            problem = f"no trades of {symbol} at {self._url}: {error or type(error).__name__}"
            raise UnavailableError(problem, url=self._url) from error


def read(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read an answer. Raises msgspec.MsgspecError where a 200 brings no trades."""
    used, after = _number(headers.get(USED_WEIGHT)), _number(headers.get("Retry-After"))
    if status != 200:
        problem = _problem(status, body)
        for_any = status == NOT_FOUND or _wants_key(status, body)
        return Answer(status, (), used, after, problem, _for_all(status, body), for_any)
    trades = sorted(_decode_trades(body), key=lambda trade: trade.id)
    return Answer(status, tuple(trades), used)


def to_columns(trades: tuple[RestTrade, ...], code: int, received_us: int) -> TradeColumns:
    rows = len(trades)
    return TradeColumns.build(
        codes=[code] * rows,
        ids=[trade.id for trade in trades],
        prices=[trade.price for trade in trades],
        quantities=[trade.qty for trade in trades],
        times=[trade.time for trade in trades],
        event_times=[0] * rows,
        sold=[trade.is_buyer_maker for trade in trades],
        best_match=[trade.is_best_match for trade in trades],
        received_us=np.full(rows, received_us, np.int64),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _for_all(status: int, body: bytes) -> bool:
    """Tell whether a refusal is of the address: too much asked, banned, or its firewall's."""
    return status in (418, 429) or (status == FIREWALL and _said(body).code not in KEY_WANTED)


def _wants_key(status: int, body: bytes) -> bool:
    return status in (401, FIREWALL) or _said(body).code in KEY_WANTED


def _said(body: bytes) -> _Problem:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        return _Problem()


def _problem(status: int, body: bytes) -> str:
    said = _said(body)
    text = f"{status} {said.code or ''} {said.msg[:MOST_TEXT]}".strip()
    if _for_all(status, body) and status == FIREWALL:
        return f"{text}: the exchange's firewall refuses this address"
    if _wants_key(status, body):
        return f"{text}: the exchange wants a key, K2_INGESTOR_API_KEY"
    if status == NOT_FOUND:
        return f"{text}: K2_INGESTOR_REST_URL has no historicalTrades"
    return text


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status == 200:
        return await _bounded(response.content)
    # A refusal holds, whatever becomes of its text.
    with suppress(TimeoutError, aiohttp.ClientError):
        return await _bounded(response.content)
    return b""


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > MOST_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"more than {MOST_ANSWER_BYTES} bytes")
    return bytes(body)
