"""What is traded on the simulated exchange: tick and lot sizes, and where prices start."""

from __future__ import annotations

from dataclasses import dataclass

from tools.simulator.draws import Draws

# Prices and quantities are whole numbers of 1e-8, as the exchange prints eight decimals.
DECIMALS = 8
UNIT = 10**DECIMALS

_QUOTE = "USDT"
_QUOTES = (_QUOTE, "USDC", "FDUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY")
# Base asset; price, tick and lot in 1e-8. Ticks and lots as on the exchange in 2024.
_WELL_KNOWN = (
    ("BTC", 6_170_000_000_000, 1_000_000, 1_000),
    ("ETH", 268_000_000_000, 1_000_000, 10_000),
    ("SOL", 15_500_000_000, 1_000_000, 100_000),
    ("BNB", 51_500_000_000, 1_000_000, 100_000),
    ("XRP", 60_000_000, 10_000, 100_000_000),
    ("DOGE", 10_500_000, 1_000, 100_000_000),
    ("ADA", 34_000_000, 10_000, 10_000_000),
    ("TRX", 12_800_000, 1_000, 10_000_000),
    ("AVAX", 2_200_000_000, 100_000, 1_000_000),
    ("LINK", 1_050_000_000, 100_000, 1_000_000),
    ("DOT", 460_000_000, 10_000, 1_000_000),
    ("LTC", 6_000_000_000, 1_000_000, 100_000),
    ("BCH", 34_500_000_000, 1_000_000, 100_000),
    ("NEAR", 410_000_000, 10_000, 10_000_000),
    ("UNI", 600_000_000, 10_000, 1_000_000),
    ("ATOM", 480_000_000, 10_000, 1_000_000),
    ("SHIB", 1_380, 1, 100_000_000),
    ("FIL", 370_000_000, 10_000, 1_000_000),
    ("APT", 610_000_000, 10_000, 1_000_000),
    ("ARB", 58_000_000, 10_000, 10_000_000),
)
# As the exchange has it for its cheapest coins: more than decimal(18, 8) holds.
_LARGEST_QUANTITY = 92_141_578_700 * UNIT


@dataclass(frozen=True, slots=True)
class Instrument:
    """One symbol's grid; price, tick and lot in 1e-8."""

    base: str
    quote: str
    price: int
    tick: int
    lot: int
    first_trade_id: int
    largest_quantity: int = 9_000 * UNIT

    @property
    def symbol(self) -> str:
        return self.base + self.quote

    @property
    def price_ticks(self) -> int:
        return self.price // self.tick


def instruments(count: int, *, seed: int) -> tuple[Instrument, ...]:
    """Return `count` symbols, the most active first; the 21st is SIM021USDT, and so on."""
    draws = Draws(seed, "instruments")
    first_ids = draws.uniform(count) % 2_000_000_000 + 1
    prices = draws.uniform(count) % 900_000 + 100_000
    return tuple(_instrument(i, int(first_ids[i]), int(prices[i])) for i in range(count))


def _instrument(index: int, first_trade_id: int, price_ticks: int) -> Instrument:
    if index < len(_WELL_KNOWN):
        base, price, tick, lot = _WELL_KNOWN[index]
        largest = _LARGEST_QUANTITY if lot == UNIT else 9_000_000 * UNIT
        return Instrument(base, _QUOTE, price, tick, lot, first_trade_id, largest)
    base = f"SIM{index + 1:03d}"
    return Instrument(base, _QUOTE, price_ticks * 10_000, 10_000, 1_000_000, first_trade_id)


def known(symbol: str) -> Instrument:
    """Return the grid of a recorded symbol: the finest there is, where it is not well known."""
    for index, (base, *_) in enumerate(_WELL_KNOWN):
        if symbol == base + _QUOTE:
            return _instrument(index, 0, 0)
    quote = next((q for q in _QUOTES if symbol.endswith(q) and symbol != q), "")
    base = symbol.removesuffix(quote)
    return Instrument(base, quote, UNIT, 1, 1, 0, _LARGEST_QUANTITY)
