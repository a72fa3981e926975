"""Producers, consumers and admin clients, made the one way K2 uses them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from libs.kafka.deadline import deadline, unreachable
from libs.kafka.partitioner import partition_of_key
from libs.market.errors import UnavailableError

Client: TypeAlias = AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0
MAX_BATCH_BYTES = 1_000_000
LINGER_MS = 5
TRANSACTION_TIMEOUT_MS = 10_000


async def start_producer(
    bootstrap: str, client_id: str, *, timeout_s: float = START_TIMEOUT_S
) -> AIOKafkaProducer:
    """Start an idempotent producer (acks=all) with the bucket partitioner.

    zstd, because aiokafka's lz4 is slow: a batch of trades costs 0.7 us and 28 bytes a row with
    zstd, 2.5 us and 37 bytes with lz4.

    Raises:
        UnavailableError: no broker answered within `timeout_s`.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        compression_type="zstd",
        linger_ms=LINGER_MS,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_BATCH_BYTES,
        partitioner=partition_of_key,
    )
    await start_client(producer, bootstrap, timeout_s)
    return producer


async def start_transactional(
    bootstrap: str,
    client_id: str,
    transactional_id: str,
    *,
    timeout_s: float = START_TIMEOUT_S,
) -> AIOKafkaProducer:
    """Start a producer that takes a transactional id, and so fences whoever had it before.

    What the one before had begun and not ended is aborted, and what it had ended can be read.

    Raises:
        UnavailableError: no broker gave the id within `timeout_s`.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        request_timeout_ms=TRANSACTION_TIMEOUT_MS,
        compression_type="zstd",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_BATCH_BYTES,
    )
    await start_client(producer, bootstrap, timeout_s)
    return producer


async def abandon_producer(producer: AIOKafkaProducer, *, timeout_s: float) -> None:
    """Let go of a producer that did not stop: what it still holds is not sent."""
    with suppress(UnavailableError):
        async with deadline("the Kafka producer did not end", timeout_s):
            # Its own stop waits until all is sent, which may be never.
            await producer._sender.close()  # noqa: SLF001
    with suppress(UnavailableError):
        async with deadline("the Kafka producer did not close", timeout_s):
            await producer.client.close()


async def start_consumer(
    bootstrap: str,
    client_id: str,
    *topics: str,
    group_id: str | None = None,
    max_partition_fetch_bytes: int = 4 * 1024 * 1024,
    fetch_min_bytes: int = 1,
    fetch_max_wait_ms: int = 100,
    timeout_s: float = START_TIMEOUT_S,
) -> AIOKafkaConsumer:
    """Start a consumer that reads committed records and never resets its own offset.

    It commits nothing by itself. Without topics it waits for assign() or subscribe().

    Raises:
        UnavailableError: no broker answered within `timeout_s`.
    """
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=max_partition_fetch_bytes,
        fetch_min_bytes=fetch_min_bytes,
        fetch_max_wait_ms=fetch_max_wait_ms,
    )
    await start_client(consumer, bootstrap, timeout_s)
    return consumer


async def start_admin(
    bootstrap: str, client_id: str, *, timeout_s: float = START_TIMEOUT_S
) -> AIOKafkaAdminClient:
    """Start an admin client.

    Raises:
        UnavailableError: no broker answered within `timeout_s`.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id=client_id)
    await start_client(admin, bootstrap, timeout_s)
    return admin


async def stop_client(client: Client, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop a client; a producer sends what it holds.

    Raises:
        UnavailableError: Kafka went away and did not come back in time.
    """
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    async with deadline("the Kafka client did not stop", timeout_s):
        try:
            await stop()
        except asyncio.CancelledError:
            # While Kafka is away aiokafka lets out that it cancelled tasks of its own.
            if cancel_was_asked():
                raise


async def start_client(client: Client, bootstrap: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Start a client; one that does not start is stopped. Raises UnavailableError."""
    try:
        async with deadline(unreachable(bootstrap), timeout_s):
            await client.start()
    except BaseException:
        # A cancelled start too leaves connections behind, and the first error is the one to tell.
        with suppress(UnavailableError):
            await stop_client(client)
        raise


def cancel_was_asked() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
