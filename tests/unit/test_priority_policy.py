"""The priority policy: who waits when the writer falls behind, by a file that says its version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.degradation.level import Level
from libs.degradation.policy import SHED_AT, SHIPPED, Priority, load_policy, parse_policy
from libs.market.errors import ConfigError

POLICY = """
name = "mine"

[exchanges.BINANCE]
critical = ["BTCUSDT", "BTC*PERP"]
high = ["ETH*"]
normal = ["ETHTRY"]
low = ["*TRY", "DOGEUSDT"]
"""


@pytest.mark.parametrize("name", ["crypto", "equities"])
def test_a_shipped_policy_goes_by_its_name(name: str) -> None:
    """Its version holds what sha256sum says of the file."""
    policy = load_policy(name)
    digest = hashlib.sha256((SHIPPED / f"{name}.toml").read_bytes()).hexdigest()
    assert policy.version == f"{name}@{digest[:12]}"


def test_an_exact_symbol_comes_before_a_pattern_and_a_high_class_before_a_low() -> None:
    """The order of lines means nothing."""
    policy = parse_policy(POLICY, where="here")
    found = {s: policy.priority_of("BINANCE", s) for s in ("BTCUSDT", "ETHTRY", "ETHBTC", "ADATRY")}
    assert found == {
        "BTCUSDT": Priority.CRITICAL,
        "ETHTRY": Priority.NORMAL,
        "ETHBTC": Priority.HIGH,
        "ADATRY": Priority.LOW,
    }


@given(st.text(max_size=9), st.sampled_from(["KRAKEN", "", "binance"]))
def test_what_nobody_named_is_normal(symbol: str, exchange: str) -> None:
    """Whatever the symbol is, on an exchange the file does not know."""
    assert parse_policy(POLICY, where="here").priority_of(exchange, symbol) is Priority.NORMAL


def test_only_exact_critical_symbols_can_be_told_in_advance() -> None:
    """A pattern may fit what no one has seen yet."""
    policy = parse_policy(POLICY.replace(', "BTC*PERP"', ""), where="here")
    assert policy.critical_symbols("BINANCE") == frozenset({"BTCUSDT"})
    assert policy.critical_symbols("KRAKEN") == frozenset()
    assert parse_policy(POLICY, where="here").critical_symbols("BINANCE") is None


def test_levels_put_off_ever_more_and_never_what_is_critical() -> None:
    """By the table of levels: low symbols first, then all but the critical ones."""
    assert [SHED_AT[level] for level in Level] == [
        frozenset(),
        frozenset(),
        {Priority.LOW},
        {Priority.LOW, Priority.NORMAL, Priority.HIGH},
        {Priority.LOW, Priority.NORMAL, Priority.HIGH},
    ]


def test_every_mistake_is_named_with_its_line() -> None:
    """All at once, so that one start shows them all."""
    text = """name = "No Good"
colour = "red"

[exchanges.BINANCE]
critical = ["BTCUSDT", 7]
low = ["*", "BTCUSDT"]
urgent = ["ETHUSDT"]
high = "SOLUSDT"

[exchanges.kraken]
low = ["A B"]
"""
    with pytest.raises(ConfigError) as refusal:
        parse_policy(text, where="mine.toml")
    said = refusal.value.message
    for expected in (
        "mine.toml is wrong",
        "line 1: name: ",
        "line 2: colour means nothing",
        "line 5: exchanges.BINANCE.critical[1]: Expected `str`, got `int`",
        "line 6: exchanges.BINANCE.low[0]: * would make symbols low that nobody knows",
        "line 6: exchanges.BINANCE.low[1]: BTCUSDT is critical already",
        "line 7: exchanges.BINANCE.urgent is no class",
        "line 8: exchanges.BINANCE.high must be a list",
        "line 10: exchange kraken: ",
        "line 11: exchanges.kraken.low[0]: ",
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "is no TOML: Invalid value (at end of document)"),
        ('name = "x"', "there must be at least one table"),
        ('name = "x"\nexchanges = 3', "there must be at least one table"),
        ('name = "x"\n[exchanges]\nASX = 3', "line 3: exchanges.ASX must be a table"),
    ],
)
def test_what_is_no_policy_is_refused(text: str, said: str) -> None:
    """With what it should be."""
    with pytest.raises(ConfigError, match=said.replace("(", r"\(").replace(")", r"\)")):
        parse_policy(text, where="here")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By the path that was asked for."""
    with pytest.raises(ConfigError, match="nowhere\\.toml cannot be read"):
        load_policy(str(tmp_path / "nowhere.toml"))


def test_the_version_is_that_of_the_content(tmp_path: Path) -> None:
    """The same text elsewhere is the same version; another comment is another."""
    path = tmp_path / "p.toml"
    path.write_text(POLICY)
    assert load_policy(str(path)).version == parse_policy(POLICY, where="here").version
    assert parse_policy(POLICY + "# x", where="").version != parse_policy(POLICY, where="").version
