"""Dead letters listed, shown and replayed by `k2 dlq`, against a real writer and Kafka."""

from __future__ import annotations

import json

from aiokafka import AIOKafkaProducer

from libs.lake.table.tables import TRADES
from tests.support.cli import Answer, Home
from tests.support.writer import Writing, counted, rows_in

REFUSED, USAGE, NOT_FOUND = 5, 2, 4
POISON = 30
UNREADABLE = b"no trade at all"


def rows_of(answer: Answer) -> list[dict[str, object]]:
    assert answer.code == 0, answer
    return [json.loads(line) for line in answer.output.splitlines()]


async def test_dead_letters_are_listed_shown_and_replayed(
    writing: Writing, producer: AIOKafkaProducer, home: Home
) -> None:
    """Poison is set aside; once its schema is back it is stored, once, however often replayed."""
    schemas = writing.folder / "schemas.json"
    away = schemas.rename(writing.folder / "away.json")
    await writing.produce(producer, POISON)
    await writing.produce_raw(producer, [UNREADABLE])
    with writing.writer() as writer:
        await counted(writer, dead_lettered_rows=2 * POISON + 1)
        home.variables["K2_WRITER_ADDRESS"] = (await writer.door()).grpc or ""
        key = check_listed(writing, home)
        check_shown(home, key)
        check_refused(home, key)
        away.rename(schemas)
        check_tried(writing, home)
        sent = home.k2("dlq", "replay", "--reason", "UNKNOWN_SCHEMA", "-o", "table")
        assert (sent.code, sent.text) == (0, f"{2 * POISON} records sent again\n")
        await writing.all_committed()
        check_replayed(home, key)
        await counted(writer, duplicate_rows=1)
        assert rows_in(writing.lake) == 2 * POISON
    found = writing.lake.load_table(TRADES).scan(selected_fields=("trade_id",)).to_arrow()
    assert found.num_rows == 2 * POISON


def check_listed(writing: Writing, home: Home) -> str:
    """Hold the list to what was sent; return the key of the newest of ETHUSDT."""
    listed = rows_of(home.k2("dlq", "list", "-n", "0", "-o", "json"))
    assert len({row["key"] for row in listed}) == 2 * POISON + 1
    assert {row["source"] for row in listed} == {"writer-1"}
    ours = rows_of(home.k2("dlq", "list", "--symbol", "ETHUSDT", "-n", "4", "-o", "json"))
    offsets = [f"{writing.topic}/13/{POISON - n}" for n in range(1, 5)]
    assert [row["key"] for row in ours] == offsets
    assert {row["schema_id"] for row in ours} == {writing.schema_id}
    return str(ours[0]["key"])


def check_shown(home: Home, key: str) -> None:
    """What it holds, why it is here, and what to do."""
    (shown,) = rows_of(home.k2("dlq", "show", key, "-o", "json"))
    assert str(shown["refused_because"]).startswith("UNKNOWN_SCHEMA")
    assert shown["fields"]["trade_id"] == str(POISON - 1)  # type: ignore[index]
    table = home.k2("dlq", "show", key, "-o", "table").text
    assert "register the schema" in table
    assert "0000  00 00 00 00" in table


def check_refused(home: Home, key: str) -> None:
    """What is not there, names nothing, or cannot be stored yet is refused, each by its code."""
    assert home.k2("dlq", "show", "no/0/1").code == NOT_FOUND
    assert home.k2("dlq", "replay").code == USAGE
    early = home.k2("dlq", "replay", key, "-o", "table")
    assert (early.code, "0 records sent again, 1 refused" in early.text) == (REFUSED, True)


def check_tried(writing: Writing, home: Home) -> None:
    """A dry run says what would be sent, and what would not."""
    tried = home.k2("dlq", "replay", "--all", "--dry-run", "-o", "json")
    counts = {"replayed": 2 * POISON, "refused": 1}
    said = json.loads(tried.output)
    assert (tried.code, {name: said[name] for name in counts}) == (REFUSED, counts)
    assert list(said["refusals"]) == [f"{writing.topic}/3/{POISON}"]


def check_replayed(home: Home, key: str) -> None:
    """What was replayed is left out and marked; by its key it is sent again all the same."""
    again = home.k2("dlq", "replay", "--reason", "unknown_schema", "-o", "json")
    assert json.loads(again.output)["replayed"] == 0
    left = rows_of(home.k2("dlq", "list", "-n", "0", "-o", "json"))
    assert [row["reason"] for row in left] == ["FRAMING"]
    marked = rows_of(home.k2("dlq", "list", "--replayed", "--symbol", "BTCUSDT", "-o", "json"))
    assert all(row["replayed_time"] for row in marked)
    twice = home.k2("dlq", "replay", key, "-o", "json")
    assert json.loads(twice.output)["replayed"] == 1
