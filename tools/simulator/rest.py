"""The exchange's REST routes, answered from the session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from itertools import groupby, islice
from operator import attrgetter

import msgspec
from aiohttp import web

from libs.market.clock import Clock
from tools.simulator.history import History, PastTrade
from tools.simulator.instruments import DECIMALS, UNIT, Instrument
from tools.simulator.player import Player
from tools.simulator.weights import Verdict, WeightBudget

_WEIGHTS = {"exchangeInfo": 20, "trades": 25, "historicalTrades": 25, "aggTrades": 4}
_MOST_ROWS, _DEFAULT_ROWS = 1_000, 500
_TOO_MUCH = -1003
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RestError(Exception):
    """An answer of the exchange's own kind: HTTP status, code, sentence."""

    def __init__(self, code: int, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status


class RestApi:
    """Handlers of /api/v3. Every one is charged before it is served."""

    def __init__(self, player: Player, budget: WeightBudget, clock: Clock) -> None:
        self._player = player
        self._budget = budget
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v3/ping", self._charged(1, self._ping)),
            web.get("/api/v3/time", self._charged(1, self._time)),
            web.get("/api/v3/exchangeInfo", self._charged(20, self._exchange_info)),
            web.get("/api/v3/trades", self._charged(25, self._trades)),
            web.get("/api/v3/historicalTrades", self._charged(25, self._historical_trades)),
            web.get("/api/v3/aggTrades", self._charged(4, self._agg_trades)),
        ]

    def _charged(self, weight: int, serve: Callable[[web.Request], object]) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            now_s = self._clock.now_us() / 1e6
            verdict = self._budget.spend(request.remote or "", weight, now_s)
            headers = {
                "X-MBX-USED-WEIGHT": str(verdict.used),
                "X-MBX-USED-WEIGHT-1M": str(verdict.used),
            }
            if verdict.status != 200:
                return _refusal(verdict, self._budget.limit, headers, now_s)
            try:
                return _json(serve(request), headers)
            except RestError as error:
                return _json({"code": error.code, "msg": error.text}, headers, status=error.status)

        return handle

    def _ping(self, _: web.Request) -> object:
        return {}

    def _time(self, request: web.Request) -> object:
        now_us = self._clock.now_us()
        return {"serverTime": now_us if _wants_us(request) else now_us // 1_000}

    def _exchange_info(self, request: web.Request) -> object:
        known = {i.symbol: i for i in self._player.session.instruments}
        wanted = _wanted_symbols(request)
        if any(symbol not in known for symbol in wanted):
            raise RestError(-1121, "Invalid symbol.")
        return {
            "timezone": "UTC",
            "serverTime": self._clock.now_us() // (1 if _wants_us(request) else 1_000),
            "rateLimits": [_rate_limit(self._budget.limit)],
            "exchangeFilters": [],
            "symbols": [_symbol_info(known[s]) for s in wanted or known],
        }

    def _trades(self, request: web.Request) -> object:
        newest = self._history.newest(self._symbol(request), _limit(request))
        return [_trade(trade, _divisor(request)) for trade in newest]

    def _historical_trades(self, request: web.Request) -> object:
        symbol, limit = self._symbol(request), _limit(request)
        first_id = _integer(request, "fromId")
        if first_id is None:
            found = self._history.newest(symbol, limit)
        else:
            found = list(islice(self._history.from_id(symbol, first_id), limit))
        return [_trade(trade, _divisor(request)) for trade in found]

    def _agg_trades(self, request: web.Request) -> object:
        symbol, limit = self._symbol(request), _limit(request)
        start, end = _time_us(request, "startTime"), _time_us(request, "endTime")
        first_aggregate = _integer(request, "fromId")
        if first_aggregate is not None and (start is not None or end is not None):
            raise RestError(-1128, "Combination of optional parameters invalid.")
        if first_aggregate is None and start is None and end is None:
            found = _aggregates(self._history.newest(symbol, _MOST_ROWS * 50))[-limit:]
        else:
            trades = self._history.from_time(symbol, start or 0)
            within = (t for t in trades if end is None or t.time_us <= end)
            beyond = (t for t in within if t.aggregate >= (first_aggregate or 0))
            found = list(islice(_groups(beyond), limit))
        return [_aggregate(group, _divisor(request)) for group in found]

    @property
    def _history(self) -> History:
        return self._player.history

    def _symbol(self, request: web.Request) -> str:
        symbol = request.query.get("symbol")
        if not symbol:
            text = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            raise RestError(-1102, text)
        if not symbol.isalnum() or not symbol.isupper():
            legal = "^[A-Z0-9-_.]{1,20}$"
            text = f"Illegal characters found in parameter 'symbol'; legal range is '{legal}'."
            raise RestError(-1100, text)
        if symbol not in self._player.session.symbols:
            raise RestError(-1121, "Invalid symbol.")
        return symbol


def _integer(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 20:
        legal = "^[0-9]{1,20}$"
        sentence = f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
        raise RestError(-1100, sentence)
    return int(text)


def _limit(request: web.Request) -> int:
    limit = _integer(request, "limit")
    if limit == 0:
        raise RestError(
            -1102, "Mandatory parameter 'limit' was not sent, was empty/null, or malformed."
        )
    return min(limit or _DEFAULT_ROWS, _MOST_ROWS)


def _time_us(request: web.Request, name: str) -> int | None:
    stamp = _integer(request, name)
    if stamp is None:
        return None
    return stamp if stamp >= 10**14 else stamp * 1_000


def _wants_us(request: web.Request) -> bool:
    return request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"


def _divisor(request: web.Request) -> int:
    return 1 if _wants_us(request) else 1_000


def _wanted_symbols(request: web.Request) -> list[str]:
    if "symbol" in request.query:
        return [request.query["symbol"]]
    if "symbols" not in request.query:
        return []
    try:
        return msgspec.json.decode(request.query["symbols"], type=list[str])
    except msgspec.MsgspecError as error:
        legal = '^\\\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\\\]$'
        text = f"Illegal characters found in parameter 'symbols'; legal range is '{legal}'."
        raise RestError(-1100, text) from error


def _trade(trade: PastTrade, divisor: int) -> dict[str, object]:
    quote = Decimal(trade.price) * Decimal(trade.quantity)
    return {
        "id": trade.trade_id,
        "price": trade.price,
        "qty": trade.quantity,
        "quoteQty": f"{quote:.8f}",
        "time": trade.time_us // divisor,
        "isBuyerMaker": trade.is_buyer_maker,
        "isBestMatch": True,
    }


def _groups(trades: Iterable[PastTrade]) -> Iterable[list[PastTrade]]:
    return (list(group) for _, group in groupby(trades, key=attrgetter("aggregate")))


def _aggregates(trades: Iterable[PastTrade]) -> list[list[PastTrade]]:
    return list(_groups(trades))


def _aggregate(trades: list[PastTrade], divisor: int) -> dict[str, object]:
    return {
        "a": trades[0].aggregate,
        "p": trades[0].price,
        "q": f"{sum((Decimal(t.quantity) for t in trades), Decimal(0)):.8f}",
        "f": trades[0].trade_id,
        "l": trades[-1].trade_id,
        "T": trades[0].time_us // divisor,
        "m": trades[0].is_buyer_maker,
        "M": True,
    }


def _text(units: int) -> str:
    return f"{units // UNIT}.{units % UNIT:0{DECIMALS}d}"


def _symbol_info(instrument: Instrument) -> dict[str, object]:
    tick, lot = _text(instrument.tick), _text(instrument.lot)
    return {
        "symbol": instrument.symbol,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": DECIMALS,
        "quoteAsset": instrument.quote,
        "quotePrecision": DECIMALS,
        "quoteAssetPrecision": DECIMALS,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": lot,
                "maxQty": _text(instrument.largest_quantity),
                "stepSize": lot,
            },
        ],
        "permissions": ["SPOT"],
    }


def _rate_limit(limit: int) -> dict[str, object]:
    return {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": limit,
    }


def _refusal(verdict: Verdict, limit: int, headers: dict[str, str], now_s: float) -> web.Response:
    until_ms = int((now_s + verdict.retry_after_s) * 1_000)
    text = (
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE."
        " Please use WebSocket Streams for live updates to avoid polling the API."
        if verdict.status == 429
        else f"Way too much request weight used; IP banned until {until_ms}."
        " Please use WebSocket Streams for live updates to avoid bans."
    )
    headers = {**headers, "Retry-After": str(verdict.retry_after_s)}
    return _json({"code": _TOO_MUCH, "msg": text}, headers, status=verdict.status)


def _json(body: object, headers: dict[str, str], *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )
