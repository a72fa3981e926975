"""What the healer is told of the sequence: gaps, and symbols that may have one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.ingestor.publishing.symbol_sequence import Gap, SymbolSequence, Unheard


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Ids of a symbol that nobody has brought."""

    code: int
    symbol: str
    gap: Gap


@dataclass(frozen=True, slots=True)
class QuietSymbol:
    """A symbol that has not traded since a connection opened."""

    code: int
    symbol: str
    unheard: Unheard


def open_gaps(symbols: Sequence[str], states: Sequence[SymbolSequence]) -> list[OpenGap]:
    """Name what is missing of each symbol; both lists go by code."""
    by_symbol = zip(symbols, states, strict=True)
    return [
        OpenGap(code, symbol, gap)
        for code, (symbol, state) in enumerate(by_symbol)
        for gap in state.gaps
    ]


def quiet_symbols(symbols: Sequence[str], states: Sequence[SymbolSequence]) -> list[QuietSymbol]:
    """Name the symbols that may have traded before their connection opened."""
    by_symbol = zip(symbols, states, strict=True)
    return [
        QuietSymbol(code, symbol, unheard)
        for code, (symbol, state) in enumerate(by_symbol)
        if (unheard := state.unheard) is not None
    ]
