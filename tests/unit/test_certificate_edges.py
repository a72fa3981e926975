"""A certificate speaks of what was asked: also of times and ids before the first trade held."""

from __future__ import annotations

import pytest

from libs.lake.completeness.certificate import Bounds, Certificate, certify, sentence
from libs.lake.completeness.evidence import Beyond, Why, book_of
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Ids, Series
from libs.lake.ledger.ledger import Ledger
from libs.lake.ledger.timeline import Lines

BTC = Series("BINANCE", "CRYPTO", "BTCUSDT", 0)
FIRST_US, LAST_US = 1_000_000, 2_000_000
LEDGER = Ledger({}, {BTC: (Ids(100, 199, FIRST_US, LAST_US),)}, {}, {}, Lines())
BOUNDS = Bounds(1, {}, {}, {}, log_is_known=True)


def asked(scope: Scope) -> Certificate:
    return certify(book_of(LEDGER, [BTC], scope), Beyond(), scope, BOUNDS)


def since(start_us: int) -> Scope:
    return Scope("BTCUSDT", start_us=start_us)


def ids(first: int | None, last: int | None) -> Scope:
    return Scope("BTCUSDT", first_id=first, last_id=last)


@pytest.mark.parametrize(("start_us", "complete"), [(1, False), (FIRST_US, True), (LAST_US, True)])
def test_times_before_the_first_trade_held_are_not_certified(
    start_us: int, *, complete: bool
) -> None:
    """Nothing is known of them; a question that names no start is about what is held."""
    certificate = asked(since(start_us))
    assert certificate.complete is complete
    assert [found.why for found in certificate.findings] == ([] if complete else [Why.BEFORE_FIRST])
    assert asked(Scope("BTCUSDT")).complete
    assert "in the times asked about" in sentence(asked(since(FIRST_US)))
    assert "times asked about" not in sentence(asked(Scope("BTCUSDT")))


@pytest.mark.parametrize(
    ("scope", "missing"),
    [
        (ids(None, 1), (1, 1)),
        (ids(500, None), (500, 500)),
        (ids(1, 5), (1, 5)),
        (ids(90, 150), (90, 99)),
        (ids(150, 250), (200, 250)),
    ],
)
def test_ids_beyond_those_held_are_missing(scope: Scope, missing: tuple[int, int]) -> None:
    """Also where only one end was named, and it lies beyond all that is held."""
    certificate = asked(scope)
    assert not certificate.complete
    assert [found.ids for found in certificate.findings] == [missing]
