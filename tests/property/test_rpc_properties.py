"""Errors and page tokens survive the way to the client and back."""

from __future__ import annotations

import base64
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.market import errors
from libs.market.errors import ExhaustedError, InvalidError, K2Error, UnavailableError
from libs.rpc.errors import from_status, message_of, to_status
from libs.rpc.pages import decode_token, encode_token, page_size

FACTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{2,15}", fullmatch=True).filter(
        lambda name: name not in ("field", "retry_after_s")
    ),
    st.text(max_size=50) | st.integers(),
    max_size=5,
)
PLAIN = st.sampled_from(
    [errors.NotFoundError, errors.ConflictError, errors.CorruptError, errors.ConfigError, K2Error]
)
MESSAGES = st.text(max_size=200)


class Cursor(msgspec.Struct, frozen=True):
    query: bytes
    offsets: dict[int, int]
    last: tuple[str, int] | None


CURSORS = st.builds(
    Cursor,
    st.binary(max_size=16),
    st.dictionaries(st.integers(0, 15), st.integers(0, 2**62), max_size=16),
    st.none() | st.tuples(st.text(max_size=10), st.integers(0, 2**62)),
)


@given(PLAIN, MESSAGES, FACTS)
def test_plain_errors_round_trip(
    kind: type[K2Error], message: str, facts: dict[str, object]
) -> None:
    """Class, message and facts (as text) come back."""
    rebuilt = from_status(to_status(kind(message, **facts)))

    assert type(rebuilt) is kind
    assert rebuilt.message == message
    assert rebuilt.facts == {name: str(fact) for name, fact in facts.items()}


@given(st.sampled_from([InvalidError, errors.PrecisionError]), MESSAGES, st.text(min_size=1))
def test_invalid_errors_keep_their_field(
    kind: type[InvalidError], message: str, field: str
) -> None:
    """The field named by BadRequest is the error's."""
    rebuilt = from_status(to_status(kind(message, field=field)))

    assert type(rebuilt) is kind
    assert isinstance(rebuilt, InvalidError)
    assert rebuilt.field == field


@given(st.sampled_from([UnavailableError, ExhaustedError]), st.integers(0, 10**7))
def test_retriable_errors_keep_their_time(
    kind: type[UnavailableError] | type[ExhaustedError], retry_after_ms: int
) -> None:
    """RetryInfo carries it to the millisecond."""
    rebuilt = from_status(to_status(kind("later", retry_after_s=retry_after_ms / 1_000)))

    assert isinstance(rebuilt, kind)
    assert rebuilt.retry_after_s == pytest.approx(retry_after_ms / 1_000)


@given(st.characters(), st.integers(0, 5_000), st.integers(0, 60), st.integers(0, 500))
def test_status_fits_in_the_trailers(letter: str, length: int, facts: int, width: int) -> None:
    """However much an error says, peers take no more than 8 KiB."""
    error = InvalidError(letter * length, field="symbol")
    error.facts = {f"{number}": letter * width for number in range(facts)}

    details = to_status(error).SerializeToString()

    assert len(base64.b64encode(details)) + len(quote(message_of(error))) < 8_000


@given(CURSORS)
def test_page_tokens_round_trip(cursor: Cursor) -> None:
    """What was put into a token comes out, and the token needs no escaping in a URL."""
    token = encode_token(cursor)

    assert decode_token(token, Cursor) == cursor
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@given(st.text() | CURSORS.map(lambda c: encode_token(c)[1:]))
def test_garbage_is_refused_by_name(token: str) -> None:
    """A token that we did not make is an error on `page_token`, never a wrong page."""
    with pytest.raises(InvalidError) as told:
        decode_token(token, Cursor)
    assert told.value.field == "page_token"


@given(st.integers(-(2**31), 2**31 - 1))
def test_page_size_is_bounded(requested: int) -> None:
    """Zero asks for the default; more than the most gets the most; below zero is refused."""
    if requested < 0:
        with pytest.raises(InvalidError, match="page_size"):
            page_size(requested, default=100, most=1_000)
    else:
        size = page_size(requested, default=100, most=1_000)
        assert 1 <= size <= 1_000
        assert size == (requested or 100) or requested > 1_000
