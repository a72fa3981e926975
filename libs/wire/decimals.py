"""Decimal text to decimal128(28, 12), exactly."""

from __future__ import annotations

import re
from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.market.errors import InvalidError
from libs.market.trade import DECIMALS, INTEGER_DIGITS, exact
from libs.wire.schema import NUMBER

_LAST_DECIMAL = Decimal(1).scaleb(-DECIMALS)
_EXACT = Context(prec=INTEGER_DIGITS + DECIMALS)
_LONGEST_CAST = 38
_NUMBER_TEXT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?0*[0-9]{1,4})?")
_USUAL_TEXT = rf"^[0-9]{{1,{INTEGER_DIGITS}}}(\.[0-9]{{1,{DECIMALS}}})?$"


def parse_decimal(text: str, *, field: str) -> Decimal:
    """Parse what an exchange prints: ASCII digits, a point, an exponent.

    Raises:
        PrecisionError: decimal(28, 12) does not hold it exactly.
        InvalidError: it is not a number.
    """
    if not _NUMBER_TEXT.fullmatch(text):
        raise InvalidError(f"{field} {text[:64]!r} is not a decimal number", field=field)
    return exact(Decimal(text), field=field)


def parse_decimals(texts: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Parse as parse_decimal does, and say which rows it refuses; these are 0.

    One cast does it where every row is good (50 ns a row). Else the usual texts are cast
    together and the rest go one by one, so that no row's fate hangs on its neighbours.
    """
    if not _casts_exactly(texts):
        return _parse_apart(texts)
    try:
        return pc.cast(texts, NUMBER), np.zeros(len(texts), np.bool_)
    except pa.ArrowInvalid:
        return _parse_apart(texts)


def _casts_exactly(texts: pa.Array) -> bool:
    """Say whether Arrow's cast may be trusted with these.

    Arrow 26 casts long text, and text with a large exponent, to a wrong number without an error:
    "1.5" and 50 zeros to 0, and "1E-51" too.
    """
    if not len(texts):
        return True
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    characters = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    longest = int(np.diff(ends).max())
    return longest <= _LONGEST_CAST and int(characters.max(initial=0)) <= ord("9")


def _parse_apart(texts: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    usual = pc.match_substring_regex(texts, _USUAL_TEXT)
    numbers = pc.cast(pc.if_else(usual, texts, "0"), NUMBER)
    unusual = pc.invert(usual)
    parsed = [_parse_or_none(text) for text in texts.filter(unusual).to_pylist()]
    refused = np.zeros(len(texts), np.bool_)
    refused[np.flatnonzero(unusual)] = [number is None for number in parsed]
    replacements = pa.array([number or Decimal(0) for number in parsed], NUMBER)
    return pc.replace_with_mask(numbers, unusual, replacements), refused


def _parse_or_none(text: str) -> Decimal | None:
    try:
        return parse_decimal(text, field="number").quantize(_LAST_DECIMAL, context=_EXACT)
    except InvalidError:
        return None
