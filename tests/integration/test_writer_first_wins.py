"""Trades sent again over a real Kafka: stored once, contradictions among the dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from k2.writer.v1 import ledger_pb2, writer_pb2_grpc
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertTableUUID, SetSnapshotRefUpdate

from libs.kafka.client import start_consumer, stop_client
from libs.kafka.dead_letters import DeadLetter, read
from libs.kafka.send import send_values
from libs.lake.table.tables import TRADES
from libs.market.trade import AssetClass, Origin, Side
from libs.rpc import client
from libs.wire.trades import decode_trade, encode_trades, proto_batch
from tests.support.polling import eventually
from tests.support.processes import Process
from tests.support.writer import (
    FIRST_TRADE_US,
    SYMBOLS,
    Writing,
    assigned,
    committed_offsets,
    counted,
)

BTC = "BTCUSDT"


async def send_again(
    writing: Writing,
    producer: AIOKafkaProducer,
    ids: Sequence[int],
    *,
    symbol: str = BTC,
    price: str = "",
) -> None:
    """Send trades that `produce` has sent, received a second later."""
    numbers = np.array(ids)
    columns = {
        "trade_id": [str(n) for n in ids],
        "source_sequence": numbers,
        "timestamp_us": FIRST_TRADE_US + numbers,
        "ingest_timestamp_us": FIRST_TRADE_US + numbers + 1_000_000,
        "price": [price or f"{n % 999 + 1}.{n % 10**8:08}" for n in ids],
        "quantity": [f"0.{n % 997 + 1:05}" for n in ids],
    }
    constants = {
        "exchange": "BINANCE",
        "asset_class": AssetClass.CRYPTO,
        "symbol": symbol,
        "currency": "USDT",
        "side": Side.BUY,
        "origin": Origin.STREAM,
    }
    values = encode_trades(proto_batch(columns, constants), writing.schema_id)
    partition = SYMBOLS[symbol]
    await send_values(producer, writing.topic, partition, [symbol.encode()] * len(ids), values)
    writing.ends[partition] = writing.ends.get(partition, 0) + len(ids)


async def all_passed(writing: Writing, *writers: Process) -> None:
    """Wait until the table has accounted for everything that was sent."""

    async def passed() -> bool:
        reached: dict[int, int] = {}
        for writer in writers:
            reached |= await committed_offsets(writer)
        return reached == writing.ends

    await eventually(passed, 30, what="every position committed")


async def ledger(process: Process, **asked: object) -> ledger_pb2.GetLedgerResponse:
    """Ask for the ledger, all pages of it in one."""
    door = await process.door()
    assert door.grpc is not None
    whole = ledger_pb2.GetLedgerResponse()
    async with client.channel(door.grpc) as channel:
        stub = writer_pb2_grpc.WriterServiceStub(channel)
        token = ""
        while True:
            request = ledger_pb2.GetLedgerRequest(page_size=1, page_token=token, **asked)  # type: ignore[arg-type]
            page: ledger_pb2.GetLedgerResponse = await client.call(stub.GetLedger, request)
            token = page.next_page_token
            page.next_page_token = ""
            whole.MergeFrom(page)
            if not token:
                return whole


async def dead_letters(writing: Writing, count: int) -> list[DeadLetter]:
    consumer = await start_consumer(writing.bootstrap, "test")
    tp = KafkaPartition(f"{writing.topic}.dlq", 0)
    consumer.assign([tp])
    consumer.seek(tp, 0)
    found: dict[bytes, DeadLetter] = {}
    try:

        async def all_read() -> bool:
            for record in (await consumer.getmany(timeout_ms=100)).get(tp, []):
                found[record.key] = read(record)
            return len(found) >= count

        await eventually(all_read, 10, what="dead letters")
    finally:
        await stop_client(consumer)
    return list(found.values())


async def test_trades_sent_again_are_stored_once(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """The first stays with its receive stamp; status and ledger count the others by symbol."""
    with writing.writer() as writer:
        await writing.produce(producer, 1_000)
        await writing.all_committed()
        await send_again(writing, producer, range(200, 700))
        await send_again(writing, producer, range(0, 1_000, 2))
        await all_passed(writing, writer)
        shown = await counted(writer, duplicate_rows=1_000, dead_lettered_rows=0)
        assert [(one.symbol, one.count) for one in shown.duplicates] == [(BTC, 1_000)]
        held = await ledger(writer, symbol=BTC)
        (series,) = held.series
        assert [(ids.first_id, ids.last_id) for ids in series.held] == [(0, 999)]
        assert (series.exchange, series.duplicates) == ("BINANCE", 1_000)
        assert len((await ledger(writer)).series) == len(SYMBOLS)
    writing.prove_complete()


async def test_contradiction_goes_to_the_dead_letters_with_both(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """Of a committed trade and of one in the same buffer; the ledger names both positions."""
    with writing.writer(env={"K2_WRITER_FLUSH_AFTER_S": "1"}) as writer:
        await writing.produce(producer, 100)
        await writing.all_committed()
        await send_again(writing, producer, [7, 8], price="4242.5")
        await send_again(writing, producer, [9])
        await all_passed(writing, writer)
        book = await ledger(writer, topic=writing.topic)
        (partition,) = book.partitions
        assert [(one.start_offset, one.end_offset) for one in partition.dead] == [(100, 102)]
        assert {(one.symbol, one.reason) for one in partition.dead} == {(BTC, "CONFLICT")}
    letters = await dead_letters(writing, 2)
    assert [letter.position[1:] for letter in letters] == [(3, 100), (3, 101)]
    for letter, number in zip(letters, (7, 8), strict=True):
        assert letter.reason == "CONFLICT"
        assert f"{writing.topic}/3/{number})" in letter.detail
        assert "4242.5" in letter.detail
        trade = decode_trade(letter.raw)
        assert (trade.source_sequence, str(trade.price)) == (number, "4242.5")
    writing.prove_complete()


async def test_replay_from_offset_0_adds_nothing(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """A table that forgot its offsets, and other batches: every row is a duplicate of itself."""
    with writing.writer() as writer:
        await writing.produce(producer)
        await writing.all_committed()
        await all_passed(writing, writer)
        assert writer.stop() == 0
    forget_offsets(writing)
    assert writing.seam() == {}
    small = {"K2_WRITER_FLUSH_AFTER_BYTES": "200KB", "K2_WRITER_FLUSH_AFTER_S": "0.1"}
    with writing.writer("writer-2", env=small) as writer:
        await all_passed(writing, writer)
        shown = await counted(writer, duplicate_rows=6_000, committed_rows=0)
        assert (shown.dead_lettered_rows, shown.stopped_because) == (0, "")
    writing.prove_complete()


def forget_offsets(writing: Writing) -> None:
    """Set the table back to offset 0 with the same rows and ledger."""
    table = writing.lake.load_table(TRADES)
    head = table.metadata.current_snapshot()
    assert head is not None
    assert head.summary is not None
    summary = {**head.summary.additional_properties, "k2.offsets": "{}", "k2.commit-id": "reset"}
    snapshot = Snapshot.model_validate(
        {
            "snapshot-id": table.metadata.new_snapshot_id(),
            "parent-snapshot-id": head.snapshot_id,
            "manifest-list": head.manifest_list,
            "sequence-number": table.metadata.next_sequence_number(),
            "timestamp-ms": head.timestamp_ms + 1,
            "summary": Summary(Operation.REPLACE, **summary),
        }
    )
    ref = {"ref-name": MAIN_BRANCH, "type": SnapshotRefType.BRANCH}
    moved = SetSnapshotRefUpdate.model_validate({**ref, "snapshot-id": snapshot.snapshot_id})
    writing.lake.commit_table(
        table,
        (AssertTableUUID(uuid=table.metadata.table_uuid),),
        (AddSnapshotUpdate(snapshot=snapshot), moved),
    )


async def test_trades_sent_again_to_another_writer_are_stored_once(
    writing: Writing, producer: AIOKafkaProducer
) -> None:
    """A partition moves while its trades are sent again: the ledger moves with the table."""
    with writing.writer() as first:
        await writing.produce(producer)
        await assigned(first, 16, 16, placed=True)
        with writing.writer("writer-2") as second:
            for symbol in SYMBOLS:
                await send_again(writing, producer, range(0, 3_000, 3), symbol=symbol)
            await assigned(second, 1, 15, placed=True)
            for symbol in SYMBOLS:
                await send_again(writing, producer, range(3_000), symbol=symbol)
            await all_passed(writing, first, second)
            assert first.stop() == 0
            await send_again(writing, producer, range(100))
            await assigned(second, 16, 16, placed=True)
            await all_passed(writing, second)
            held = await ledger(second)
            assert sum(series.duplicates for series in held.series) == 2 * 4_000 + 100
    writing.prove_complete()
