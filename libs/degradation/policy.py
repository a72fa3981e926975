"""Which symbols matter most: a versioned file that says what waits when the writer falls behind.

The version is the file's name and the beginning of its SHA-256: what the table's ledger names, and
what `sha256sum` proves.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec

from libs.degradation.level import Level
from libs.market.errors import ConfigError

SHIPPED = Path(__file__).parent / "policies"
DEFAULT_POLICY = "crypto"
HASH_LETTERS = 12
KNOWN_SYMBOLS = 50_000
WILDCARDS = re.compile(r"[*?\[]")

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Exchange = Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9][A-Z0-9_-]*$")]
Pattern = Annotated[str, msgspec.Meta(pattern=r"^\S+$")]


class Priority(StrEnum):
    """A symbol's class, the highest first."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


# What each level puts off. By lag alone: shedding gives no memory back.
SHED_AT: Mapping[Level, frozenset[Priority]] = {
    Level.NORMAL: frozenset(),
    Level.SOFT: frozenset(),
    Level.GRACEFUL: frozenset({Priority.LOW}),
    Level.AGGRESSIVE: frozenset(Priority) - {Priority.CRITICAL},
    Level.CIRCUIT_BREAK: frozenset(Priority) - {Priority.CRITICAL},
}


@dataclass(frozen=True, slots=True)
class Classes:
    """The symbols of one exchange: exact ones, and patterns with the highest class first."""

    exact: Mapping[str, Priority]
    patterns: tuple[tuple[str, Priority], ...]

    def of(self, symbol: str) -> Priority:
        named = self.exact.get(symbol)
        if named is not None:
            return named
        fitting = (cls for pattern, cls in self.patterns if fnmatchcase(symbol, pattern))
        return next(fitting, Priority.NORMAL)


UNKNOWN_EXCHANGE = Classes({}, ())


class PriorityPolicy:
    """One version of the priorities; the same text is the same version."""

    def __init__(self, name: str, version: str, exchanges: Mapping[str, Classes]) -> None:
        self.name = name
        self.version = version
        self._exchanges = exchanges
        self.priority_of = lru_cache(KNOWN_SYMBOLS)(self._priority_of)

    def _priority_of(self, exchange: str, symbol: str) -> Priority:
        """Return a symbol's class; what nobody named is normal, never low."""
        return self._exchanges.get(exchange, UNKNOWN_EXCHANGE).of(symbol)

    def critical_symbols(self, exchange: str) -> frozenset[str] | None:
        """Return the exchange's critical symbols; None where patterns make them anyone's guess."""
        classes = self._exchanges.get(exchange, UNKNOWN_EXCHANGE)
        if any(cls is Priority.CRITICAL for _, cls in classes.patterns):
            return None
        return frozenset(s for s, cls in classes.exact.items() if cls is Priority.CRITICAL)


def load_policy(where: str) -> PriorityPolicy:
    """Read a policy: a file, or the name of one that comes with K2 (crypto, equities).

    Raises:
        ConfigError: names each mistake with its line.
    """
    shipped = SHIPPED / f"{where}.toml"
    path = shipped if shipped.is_file() else Path(where)
    try:
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the priority policy {where} cannot be read: {error}") from error
    return parse_policy(text, where=str(path))


def parse_policy(text: str, *, where: str) -> PriorityPolicy:
    """Read a policy's text.

    Raises:
        ConfigError: names each mistake with its line.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the priority policy {where} is no TOML: {error}") from error
    mistakes = [
        f"line {line_of(text, *words)}: {complaint}" for words, complaint in mistakes_in(document)
    ]
    if mistakes:
        listed = "".join(f"\n  {mistake}" for mistake in mistakes)
        raise ConfigError(
            f"the priority policy {where} is wrong:{listed}", mistakes=tuple(mistakes)
        )
    digest = hashlib.sha256(text.encode()).hexdigest()[:HASH_LETTERS]
    exchanges = {name: classes_of(table) for name, table in document["exchanges"].items()}
    return PriorityPolicy(document["name"], f"{document['name']}@{digest}", exchanges)


def classes_of(table: Mapping[str, list[str]]) -> Classes:
    ranked = [(symbol, cls) for cls in Priority for symbol in table.get(cls, ())]
    return Classes(
        exact={symbol: cls for symbol, cls in ranked if not WILDCARDS.search(symbol)},
        patterns=tuple((symbol, cls) for symbol, cls in ranked if WILDCARDS.search(symbol)),
    )


# Where it is (words to look for, one after the other), and what is wrong.
Mistake = tuple[tuple[str, ...], str]


def mistakes_in(document: Mapping[str, object]) -> Iterator[Mistake]:
    yield from refused(document.get("name"), Name, ("name",), "name")
    for key in document.keys() - {"name", "exchanges"}:
        yield (key,), f"{key} means nothing here: there are name and exchanges"
    exchanges = document.get("exchanges")
    if not isinstance(exchanges, dict) or not exchanges:
        yield ("exchanges",), "exchanges: there must be at least one table [exchanges.NAME]"
        return
    for exchange, table in exchanges.items():
        yield from refused(exchange, Exchange, (exchange,), f"exchange {exchange}")
        yield from mistakes_of_exchange(exchange, table)


def mistakes_of_exchange(exchange: str, table: object) -> Iterator[Mistake]:
    if not isinstance(table, dict):
        yield (exchange,), f"exchanges.{exchange} must be a table of classes"
        return
    first: dict[str, str] = {}
    for cls, symbols in table.items():
        key = f"exchanges.{exchange}.{cls}"
        if cls not in set(Priority):
            yield (exchange, cls), f"{key} is no class: there are {', '.join(Priority)}"
        elif not isinstance(symbols, list):
            yield (exchange, cls), f"{key} must be a list of symbols"
        else:
            yield from mistakes_of_symbols(exchange, cls, symbols, first)


def mistakes_of_symbols(
    exchange: str, cls: str, symbols: list[object], first: dict[str, str]
) -> Iterator[Mistake]:
    for number, symbol in enumerate(symbols):
        key = f"exchanges.{exchange}.{cls}[{number}]"
        words = (exchange, cls, str(symbol))
        yield from refused(symbol, Pattern, words, key)
        before = first.setdefault(str(symbol), cls)
        if before != cls:
            yield words, f"{key}: {symbol} is {before} already"
        if cls == Priority.LOW and not str(symbol).strip("*?"):
            yield words, f"{key}: {symbol} would make symbols low that nobody knows"


def refused(value: object, kind: object, words: tuple[str, ...], key: str) -> Iterator[Mistake]:
    """Say what msgspec has against a value, if anything."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield words, f"{key}: {error}"


def line_of(text: str, *words: str) -> int:
    """Return the line where the words come one after the other, as far as they do."""
    found, at = 0, 0
    for word in words:
        place = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search(text, at)
        if place is not None:
            found, at = place.start(), place.end()
    return text.count("\n", 0, found) + 1
