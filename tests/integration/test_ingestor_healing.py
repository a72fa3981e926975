"""What connections missed comes from REST, or is known never to have been."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from k2.ingestor.v1.ingestor_pb2 import Feed

from libs.market.trade import Origin
from services.ingestor import measures
from tests.support.holes import never_issued
from tests.support.ingesting import (
    Ingesting,
    contents,
    count,
    identities,
    ingesting,
    sent,
    sent_contents,
    trades_of,
)
from tests.support.polling import eventually
from tools.simulator import truth
from tools.simulator.faults import Fault
from tools.simulator.player import PlayOptions
from tools.simulator.server import Exchange
from tools.simulator.session import generated, recorded

AT_ONCE = PlayOptions(pace=math.inf, hold="missing")
SOON = {"heal_after_s": 0.05}


async def test_skipped_trades_and_cut_connections_are_healed(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """Every trade of the session is there once, digit for digit; the fetched ones say so."""
    session = generated(21, symbols=5, trades=12_000, rate=5_000, time_unit="us")
    faults = (
        Fault("skip", at=1_000, count=7),
        Fault("drop", at=3_000),
        Fault("skip", at=5_000, count=1_500),
        Fault("drop", at=9_000),
    )
    async with (
        Exchange(session, play=AT_ONCE, faults=faults) as exchange,
        ingesting(kafka, topic, exchange.address, session.symbols, tmp_path, **SOON) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(12_000)
        feeds = await healed(ingestor)
        skipped = withheld(exchange)
    trades = await trades_of(kafka, topic)
    assert contents(trades) == sent_contents(session)
    fetched = identities(trade for trade in trades if trade.origin is Origin.HEALED)
    assert not skipped - fetched
    assert sum(feed.healed_trades for feed in feeds) == fetched.total()
    assert {trade.currency for trade in trades} <= {i.quote for i in session.instruments}


async def test_refusals_are_obeyed_and_the_rest_is_healed_after_them(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """At most one request learns of the 429; the next goes when the exchange said."""
    before = requests_answered("429")
    session = generated(22, symbols=3, trades=4_000, rate=5_000, time_unit="us")
    # Long enough for most machines to ask within it; a slower one learns of nothing.
    faults = (Fault("rate_limit", at=900, seconds=4), Fault("skip", at=1_000, count=30))
    async with (
        Exchange(session, play=AT_ONCE, faults=faults) as exchange,
        ingesting(kafka, topic, exchange.address, session.symbols, tmp_path, **SOON) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(4_000)
        await healed(ingestor)
    assert requests_answered("429") <= before + 1
    assert contents(await trades_of(kafka, topic)) == sent_contents(session)


async def test_ids_the_exchange_never_issued_stay_open_without_a_writer(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """They are no trades to wait for, and the feed says which and why."""
    whole = generated(23, symbols=1, trades=500, rate=5_000)
    (symbol,) = whole.symbols
    path = tmp_path / "holes.gz"
    absent = {id_ for _, id_ in never_issued(whole, path, symbol, rows=(100, 101, 300))}
    session = recorded([path])
    async with (
        Exchange(session, play=AT_ONCE) as exchange,
        ingesting(kafka, topic, exchange.address, [symbol], tmp_path, **SOON) as ingestor,
    ):
        await exchange.played()

        async def told() -> bool:
            (feed,) = (await ingestor.feeds()).feeds
            return len(feed.recent_gaps) == 2 and all(
                "never had them" in gap.open_because for gap in feed.recent_gaps
            )

        await eventually(told, 30)
        (feed,) = (await ingestor.feeds()).feeds
    named = {id_ for gap in feed.recent_gaps for id_ in range(gap.first, gap.last + 1)}
    assert named == absent


async def test_a_restarted_ingestor_heals_what_was_sent_while_it_was_away(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """Its book tells how far Kafka was; the exchange played on without a listener."""
    session = generated(24, symbols=4, duration_s=180, rate=500)
    async with Exchange(session, play=PlayOptions(pace=1, hold="never")) as exchange:
        player = exchange.player
        async with ingesting(
            kafka, topic, exchange.address, session.symbols, tmp_path, **SOON
        ) as ingestor:
            await ingestor.arrived(300)
        seen = player.history.passed
        await eventually(lambda: player.history.passed > seen + 1_000, 30)
        player.pause()
        async with ingesting(
            kafka, topic, exchange.address, session.symbols, tmp_path, **SOON
        ) as ingestor:
            await eventually(lambda: player.connections, 30)
            resumed = player.history.passed
            player.start()
            await eventually(lambda: player.history.passed > resumed + 1_000, 30)
            player.pause()

            async def level() -> bool:
                return await count(kafka, topic) >= player.history.passed

            await eventually(level, 60)
            feeds = await healed(ingestor)
            passed = player.history.passed
    columns = truth.columns(session)
    expected = Counter(zip(columns.symbol[:passed], columns.trade_id[:passed], strict=True))
    assert sum(feed.healed_trades for feed in feeds) >= 1_000
    assert identities(await trades_of(kafka, topic)) == expected


async def test_a_symbol_that_stops_while_the_connection_is_cut_is_healed(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """It never trades again, so that nothing but REST can tell of its last trades."""
    whole = generated(25, symbols=3, trades=4_000, rate=5_000, time_unit="us")
    columns = truth.columns(whole)
    stops = columns.symbol[2_200]
    traded = columns.symbol[:2_201].count(stops)
    path = tmp_path / "stops.gz"
    never_issued(whole, path, stops, rows=range(traded, 4_000))
    session = recorded([path])
    # The 300 trades behind the cut pass before anybody can be connected again.
    faults = (Fault("drop", at=2_000), Fault("delay", at=2_300, seconds=1))
    play = PlayOptions(pace=math.inf, hold="never")
    async with (
        Exchange(session, play=play, faults=faults) as exchange,
        ingesting(
            kafka, topic, exchange.address, whole.symbols, tmp_path, **SOON, quiet_after_s=0.2
        ) as ingestor,
    ):
        await exchange.played()
        await ingestor.arrived(sum(sent(session).values()))
        await healed(ingestor)
    trades = await trades_of(kafka, topic)
    assert contents(trades) == sent_contents(session)
    last = (stops, max(t.source_sequence or 0 for t in trades if t.symbol == stops))
    assert last in identities(trade for trade in trades if trade.origin is Origin.HEALED)


async def healed(ingestor: Ingesting) -> Sequence[Feed]:
    """Wait until nothing is missing."""

    async def whole() -> bool:
        return (await ingestor.feeds()).healing.open_gaps == 0

    await eventually(whole, 30)
    return (await ingestor.feeds()).feeds


def requests_answered(status: str) -> float:
    return float(measures.REST_REQUESTS.labels(status)._value.get())


def withheld(exchange: Exchange) -> Counter[tuple[str, int]]:
    injected = exchange.player.injector.plan.injected
    return Counter(trade for one in injected if one.kind == "skip" for trade in one.trades)
