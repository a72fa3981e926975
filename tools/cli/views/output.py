"""Answers as people and programs want them: a table, or JSON, CSV, Parquet, Arrow."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import typer
from rich.console import Console

from libs.market.errors import InvalidError
from tools.cli.views.saying import let_go_of_stdout
from tools.cli.views.tables import plain_decimal, show, table_of

Row = dict[str, object]
_JSON = msgspec.json.Encoder(decimal_format="string")


class Output(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


def chosen(output: Output | None, file: Path | None) -> Output:
    """Return the format asked for, or the one that fits where the answer goes.

    A file says it by its ending, a terminal wants a table, a pipe JSON.

    Raises:
        InvalidError: the file's ending names no format, or a table is to go into it.
    """
    if output is Output.TABLE and file is not None:
        raise InvalidError("a table is for the screen: leave --file out", field="output")
    if output is not None:
        return output
    if file is not None:
        ending = file.suffix.removeprefix(".")
        if ending not in set(Output) - {Output.TABLE}:
            raise InvalidError(
                f"cannot tell the format of {file} by its ending: give --output", field="output"
            )
        return Output(ending)
    return Output.TABLE if sys.stdout.isatty() else Output.JSON


def as_told(output: Output | None) -> Output:
    """Return table or JSON, all that fits what is told while it happens.

    Raises:
        InvalidError: another format was asked for.
    """
    form = chosen(output, None)
    if form not in (Output.TABLE, Output.JSON):
        text = f"--output {form} does not fit what is told as it happens: take table or json"
        raise InvalidError(text, field="output")
    return form


def write(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, output: Output, file: Path | None
) -> int:
    """Write batches as they come, and return the number of rows.

    JSON is one object a line; decimals and int64 beyond 2^53 stay exact, as text and as digits.
    """
    if output is Output.TABLE:
        return _write_table(batches, schema)
    with _sink(file) as sink:
        return _WRITERS[output](batches, schema, sink)


def write_rows(rows: list[Row], columns: Sequence[str], output: Output, file: Path | None) -> None:
    """Write a short answer that is there already; an empty one keeps its columns."""
    if output is Output.TABLE:
        cells = [[row[name] for name in columns] for row in rows]
        show(Console(), table_of(columns, cells, exact=False))
        return
    if output is Output.JSON:
        with _sink(file) as sink:
            sink.write(_JSON.encode_lines(rows))
        return
    schema = None if rows else pa.schema([(name, pa.null()) for name in columns])
    table = pa.Table.from_pylist(rows, schema=schema)
    write(table.to_batches(), table.schema, output, file)


@contextmanager
def _sink(file: Path | None) -> Iterator[BinaryIO]:
    if file is None:
        with _reader_may_leave():
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    if file.exists() and not file.is_file():
        # A pipe or a device is written to, and never replaced.
        with _created(file, file) as sink:
            yield sink
        return
    target = file.resolve()
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with _created(unfinished, file) as sink:
            yield sink
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """End as done where `head` has seen enough."""
    try:
        yield
    except BrokenPipeError:
        let_go_of_stdout()
        raise typer.Exit from None


def _created(unfinished: Path, file: Path) -> BinaryIO:
    try:
        return unfinished.open("wb")
    except OSError as error:
        text = f"cannot write {file}: {error.strerror}; name a file in a folder that is there"
        raise InvalidError(text, field="file") from error


def _write_json(batches: Iterable[pa.RecordBatch], _: pa.Schema, sink: BinaryIO) -> int:
    rows = 0
    for batch in batches:
        sink.write(_JSON.encode_lines([_plain(row) for row in batch.to_pylist()]))
        rows += batch.num_rows
    return rows


def _write_csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, sink: BinaryIO) -> int:
    rows, flat = 0, _flat(schema.empty_table()).schema
    with pa_csv.CSVWriter(sink, flat) as writer:
        for batch in batches:
            writer.write_table(_flat(pa.Table.from_batches([batch], schema)))
            rows += batch.num_rows
    return rows


def _write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, sink: BinaryIO) -> int:
    rows = 0
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, sink: BinaryIO) -> int:
    rows = 0
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


_WRITERS = {
    Output.JSON: _write_json,
    Output.CSV: _write_csv,
    Output.PARQUET: _write_parquet,
    Output.ARROW: _write_arrow,
}


def _write_table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    rows = [row for batch in batches for row in batch.to_pylist()]
    cells = [[row[name] for name in schema.names] for row in rows]
    show(Console(), table_of(schema.names, cells, exact=True))
    return len(rows)


def _plain(row: Row) -> Row:
    return {
        name: plain_decimal(value)
        if isinstance(value, Decimal)
        else dict(value)
        if name == "vendor_data" and isinstance(value, list)
        else value
        for name, value in row.items()
    }


def _flat(table: pa.Table) -> pa.Table:
    """Return nested columns as JSON text and bytes in base64, for formats that have none."""
    for index, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_nested(kind) or pa.types.is_decimal(kind) or pa.types.is_binary(kind):
            texts = [_text(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    return table


def _text(value: object) -> str | None:
    if value is None or isinstance(value, Decimal):
        return None if value is None else plain_decimal(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    pairs = isinstance(value, list) and all(isinstance(item, tuple) for item in value) and value
    return msgspec.json.encode(dict(value) if pairs else value).decode()  # type: ignore[call-overload]
