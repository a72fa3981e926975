"""Topic names, and how topics are kept."""

from __future__ import annotations

from libs.market.bucket import BUCKETS

PARTITIONS = BUCKETS
DEAD_LETTER_SUFFIX = ".dlq"

TOPIC_CONFIG: dict[str, str] = {
    # Retention deletes by record timestamp: with exchange times there, it would delete a
    # replayed old session at once.
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "compression.type": "producer",
}


def topic_name(asset_class: str, record_type: str, exchange: str) -> str:
    """Name a topic: market.<asset_class>.<type>.<exchange>."""
    return f"market.{asset_class}.{record_type}.{exchange}".lower()


def exchange_of(topic: str) -> str:
    """Return the exchange that a topic is named for, in capitals."""
    return topic.rpartition(".")[2].upper()


def dead_letter_topic(topic: str) -> str:
    return topic + DEAD_LETTER_SUFFIX


def topic_of_dead_letters(dead_letters: str) -> str:
    return dead_letters.removesuffix(DEAD_LETTER_SUFFIX)


TRADES_BINANCE = topic_name("crypto", "trades", "binance")
