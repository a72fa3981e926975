"""What the broker says of how long it keeps a topic."""

from __future__ import annotations

from libs.kafka.admin import Retention, ensure_topics, retention_of


async def test_retention_is_told_by_topic(kafka: str, topic: str) -> None:
    """A topic's own, or the broker's for all; no limit is none."""
    short = f"{topic}-short"
    config = {"retention.ms": "60000", "retention.bytes": "1048576"}
    await ensure_topics(kafka, [short], partitions=1, config=config)
    found = await retention_of(kafka, [topic, short])
    assert found[short] == Retention(60_000, 1_048_576)
    assert found[topic].bytes is None
