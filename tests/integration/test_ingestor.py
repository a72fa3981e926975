"""Simulated exchange, ingestor, real Kafka: what was sent is there, once."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from libs.market.errors import InvalidError
from tests.support.ingesting import (
    contents,
    identities,
    ingesting,
    records_of,
    sent,
    sent_contents,
    trades_of,
)
from tests.support.polling import eventually
from tests.support.realdata import binance_recordings, needs_realdata
from tools.simulator.chunk import TimeUnit
from tools.simulator.faults import MALFORMED, Fault
from tools.simulator.player import PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import Session, generated, recorded
from tools.simulator.websocket import Limits

AT_ONCE = PlayOptions(pace=math.inf, hold="missing")


@pytest.mark.parametrize(("unit", "lines"), [("MICROSECOND", "us"), ("MILLISECOND", "ms")])
async def test_a_session_arrives_once_and_digit_for_digit(
    kafka: str, topic: str, tmp_path: Path, unit: str, lines: TimeUnit
) -> None:
    """Stamps in either unit; currencies are those the exchange lists."""
    session = generated(7, trades=20_000, rate=5_000, time_unit=lines)
    async with (
        Exchange(session, play=AT_ONCE) as exchange,
        ingesting(
            kafka, topic, exchange.address, session.symbols, tmp_path, time_unit=unit
        ) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(20_000)
        feeds = await ingestor.feeds()
    trades = await trades_of(kafka, topic)
    assert contents(trades) == sent_contents(session)
    assert {t.symbol: t.currency for t in trades} == {
        i.symbol: i.quote for i in session.instruments if i.symbol in {t.symbol for t in trades}
    }
    assert sum(feed.trades for feed in feeds.feeds) == 20_000
    assert sum(feed.gaps for feed in feeds.feeds) == 0


@needs_realdata
async def test_recorded_sessions_arrive_whole(kafka: str, topic: str, tmp_path: Path) -> None:
    """All 34,419 trades of the captures; other streams are not asked for."""
    session = recorded(binance_recordings())
    async with (
        Exchange(session, play=AT_ONCE) as exchange,
        ingesting(kafka, topic, exchange.address, session.symbols, tmp_path) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(34_419)
    assert contents(await trades_of(kafka, topic)) == sent_contents(session)


async def test_bad_frames_are_dead_lettered_and_the_rest_goes_on(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """Skipped ids are gaps, doubled trades are passed on, bad frames keep their bytes."""
    session = generated(3, symbols=4, trades=5_000, rate=5_000)
    faults = (
        Fault("malformed", at=1_000, count=2 * len(MALFORMED)),
        Fault("duplicate", at=2_000, count=5),
        Fault("skip", at=3_000, count=7),
    )
    async with (
        Exchange(session, play=AT_ONCE, faults=faults) as exchange,
        ingesting(
            kafka, topic, exchange.address, session.symbols, tmp_path, heal=False
        ) as ingestor,
    ):
        await exchange.played()
        # A surprise is an event of a kind we do not know: ignored.
        await ingestor.arrived(5_000 + 5 - 7, dead_letters=2 * (len(MALFORMED) - 1))
        feeds = await ingestor.feeds()
        injected = exchange.player.injector.plan.injected
    touched = {
        kind: Counter(trade for i in injected if i.kind == kind for trade in i.trades)
        for kind in ("skip", "duplicate")
    }
    found = identities(await trades_of(kafka, topic))
    assert found == sent(session) - touched["skip"] + touched["duplicate"]
    assert sum(feed.repeated_trades for feed in feeds.feeds) == 5
    missing = {
        (feed.symbol, id_)
        for feed in feeds.feeds
        for gap in feed.recent_gaps
        for id_ in range(gap.first, gap.last + 1)
    }
    assert missing == set(touched["skip"])
    letters = await records_of(kafka, f"{topic}.dlq")
    assert Counter(letter.value for letter in letters) == Counter(
        {frame: 2 for frame in MALFORMED if b"surprise" not in frame}
    )
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"MALFORMED", b"FIELD"}
    assert len({letter.key for letter in letters}) == len(letters)
    assert feeds.malformed_frames == len(letters)


async def test_dropped_connections_double_nothing_and_name_what_is_missing(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """What was under way when the exchange cut us off is a gap: it stays one without healing."""
    session = generated(4, symbols=5, trades=30_000, rate=5_000)
    faults = tuple(Fault("drop", at=at) for at in (5_000, 10_000, 20_000))
    async with (
        Exchange(session, play=AT_ONCE, faults=faults) as exchange,
        ingesting(
            kafka, topic, exchange.address, session.symbols, tmp_path, heal=False
        ) as ingestor,
    ):
        await exchange.played()

        async def settled() -> bool:
            feeds = (await ingestor.feeds()).feeds
            return sum(feed.trades + feed.missing_trades for feed in feeds) == 30_000

        await eventually(settled, 60)
        feeds = await ingestor.feeds()
    found = identities(await trades_of(kafka, topic))
    missing = sent(session) - found
    assert set(found.values()) == {1}
    assert sum(missing.values()) == sum(feed.missing_trades for feed in feeds.feeds)
    assert feeds.reconnects >= 3


async def test_a_shutdown_notice_and_a_short_life_lose_and_double_nothing(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """A second connection takes over before the first ends."""
    session = generated(5, symbols=5, duration_s=4, rate=3_000, time_unit="us")
    faults = (Fault("shutdown", at=2_000, seconds=1), Fault("shutdown", at=6_000, seconds=1))
    async with (
        Exchange(session, play=PlayOptions(pace=1), faults=faults) as exchange,
        ingesting(
            kafka,
            topic,
            exchange.address,
            session.symbols,
            tmp_path,
            connection_life_s=1.5,
            overlap_s=0.3,
        ) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(sum(sent(session).values()))

        async def renewed() -> bool:
            return (await ingestor.feeds()).reconnects >= 3

        async def nothing_missing() -> bool:
            return not sum(feed.missing_trades for feed in (await ingestor.feeds()).feeds)

        await eventually(renewed)
        await eventually(nothing_missing)
    assert contents(await trades_of(kafka, topic)) == sent_contents(session)


async def test_a_connection_the_exchange_cuts_daily_is_replaced_before(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """The cut, shortened here, never comes to pass."""
    session = generated(6, symbols=3, duration_s=6, rate=500)
    # Four seconds after it is to be replaced: so long may the machine stand still.
    limits = Limits(connection_lives_s=5)
    async with (
        Exchange(session, play=PlayOptions(pace=1), limits=limits) as exchange,
        ingesting(
            kafka,
            topic,
            exchange.address,
            session.symbols,
            tmp_path,
            connection_life_s=0.8,
            overlap_s=0.2,
        ) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(sum(sent(session).values()))
    assert identities(await trades_of(kafka, topic)) == sent(session)


async def test_feeds_are_paged_by_symbol(kafka: str, topic: str, tmp_path: Path) -> None:
    """Every feed once; what makes no sense names its field."""
    session: Session = generated(8, symbols=5, trades=100)
    async with (
        Exchange(session, play=AT_ONCE) as exchange,
        ingesting(kafka, topic, exchange.address, session.symbols, tmp_path) as ingestor,
    ):
        await ingestor.arrived(100)
        pages = [await ingestor.feeds(page_size=2)]
        while pages[-1].next_page_token:
            pages.append(await ingestor.feeds(page_size=2, page_token=pages[-1].next_page_token))
        assert [feed.symbol for page in pages for feed in page.feeds] == sorted(session.symbols)
        assert [len(page.feeds) for page in pages] == [2, 2, 1]
        assert not (await ingestor.feeds(exchange="KRAKEN")).feeds
        for field, wrong in (("page_size", -1), ("page_token", "x")):
            with pytest.raises(InvalidError) as refused:
                await ingestor.feeds(**{field: wrong})
            assert refused.value.field == field


async def test_all_trading_symbols_can_be_asked_for(kafka: str, topic: str, tmp_path: Path) -> None:
    """The exchange says which they are; more than fit a URL are subscribed by request."""
    session = generated(9, symbols=600, trades=3_000)
    async with (
        Exchange(session, play=AT_ONCE) as exchange,
        ingesting(kafka, topic, exchange.address, "*", tmp_path) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(3_000)
    assert identities(await trades_of(kafka, topic)) == sent(session)
