"""SQL text for DuckDB, built from checked values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from services.query.asked import EARLIEST_US, LATEST_US, Selection
from services.query.offsets import Offsets


def text(value: str) -> str:
    """Quote a text; DuckDB knows no escapes but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


def stamp(time_us: int) -> str:
    return f"make_timestamptz({time_us:d}::BIGINT)"


def files_source(paths: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(map(text, paths))}])"


def select_rows(
    paths: Sequence[str], wanted: Selection, columns: Iterable[str], *, bounded: bool
) -> str:
    """Select the wanted rows of files; `bounded` where some may lie past the ceiling."""
    where = " AND ".join(conditions(wanted, bounded=bounded)) or "true"
    return f"SELECT {', '.join(columns)} FROM {files_source(paths)} WHERE {where}"  # noqa: S608


def conditions(wanted: Selection, *, bounded: bool) -> list[str]:
    found = []
    if wanted.symbol:
        found.append(f"symbol = {text(wanted.symbol)}")
    if wanted.exchange:
        found.append(f"exchange = {text(wanted.exchange)}")
    if wanted.times.start_us > EARLIEST_US:
        found.append(f"timestamp >= {stamp(wanted.times.start_us)}")
    if wanted.times.end_us < LATEST_US:
        found.append(f"timestamp < {stamp(wanted.times.end_us)}")
    if wanted.floor is not None:
        found.append(f"kafka_offset >= {offset_of_row(wanted.floor)}")
    if wanted.ceiling is not None and bounded:
        found.append(f"kafka_offset < {offset_of_row(wanted.ceiling)}")
    return found


def offset_of_row(offsets: Offsets) -> str:
    """Look up the row's partition; one that is not named stands at 0."""
    topics = " ".join(
        f"WHEN {text(topic)} THEN {case('kafka_partition', partitions)}"
        for topic, partitions in offsets.items()
        if partitions
    )
    return f"CASE kafka_topic {topics} ELSE 0 END" if topics else "0"


def case(column: str, results: Mapping[int, int]) -> str:
    whens = " ".join(f"WHEN {key:d} THEN {result:d}" for key, result in results.items())
    return f"CASE {column} {whens} ELSE 0 END"
