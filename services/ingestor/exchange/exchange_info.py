"""What the exchange's REST API says of its symbols."""

from __future__ import annotations

import aiohttp
import msgspec

from libs.market.errors import ConfigError, UnavailableError

TIMEOUT_S = 15.0
# Binance answers with some 12 MB.
MAX_ANSWER_BYTES = 128 * 1024 * 1024
PATH = "/api/v3/exchangeInfo"


class ListedSymbol(msgspec.Struct, frozen=True, rename="camel"):
    symbol: str
    status: str = ""
    quote_asset: str = ""


class _ExchangeInfo(msgspec.Struct, frozen=True):
    symbols: list[ListedSymbol]


async def fetch_symbols(rest_url: str) -> list[ListedSymbol]:
    """Ask for every symbol the exchange lists (weight 20 of 6000 a minute).

    Raises:
        UnavailableError: nothing there answers with an exchangeInfo.
    """
    url = rest_url.rstrip("/") + PATH
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as response:
            response.raise_for_status()
            body = await _bounded(response.content, url)
        return msgspec.json.decode(body, type=_ExchangeInfo).symbols
    except (TimeoutError, aiohttp.ClientError, msgspec.DecodeError) as error:
        raise UnavailableError(f"no exchangeInfo at {url}: {error}", url=url) from error


async def _bounded(content: aiohttp.StreamReader, url: str) -> bytes:
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise UnavailableError(
                f"{url} answers with more than {MAX_ANSWER_BYTES} bytes", url=url
            )
    return bytes(body)


def trading(listed: list[ListedSymbol]) -> list[str]:
    """Name the symbols that trade now."""
    return sorted(found.symbol for found in listed if found.status == "TRADING")


def chosen(asked: tuple[str, ...], listed: list[ListedSymbol]) -> list[str]:
    """Return the symbols to take, in capitals, each once.

    Raises:
        ConfigError: all are asked for and the exchange lists none.
    """
    if "*" not in asked:
        return list(dict.fromkeys(symbol.upper() for symbol in asked))
    found = trading(listed)
    if not found:
        raise ConfigError("K2_INGESTOR_SYMBOLS is * and the exchange lists no trading symbol")
    return found
