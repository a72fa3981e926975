"""Rows as programs read them: JSON, CSV, Parquet, Arrow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from libs.wire.schema import TEXTS
from tools.cli.views.output import Output, write

ADDED = pa.table(
    {
        "liquidity": pa.array(["MAKER", None]),
        "raw": pa.array([b"\xff\x00", None]),
        "hidden": pa.array([True, None]),
        "fee_ticks": pa.array([2**62, None]),
        "tags": pa.array([["a", 'b"'], None], TEXTS),
    }
)


def test_every_type_of_column_goes_into_json(tmp_path: Path) -> None:
    """Bytes in base64, whole numbers with every digit."""
    file = tmp_path / "rows.json"
    assert write(ADDED.to_batches(), ADDED.schema, Output.JSON, file) == 2
    first, second = map(json.loads, file.read_text().splitlines())
    assert first == {
        "liquidity": "MAKER",
        "raw": "/wA=",
        "hidden": True,
        "fee_ticks": 2**62,
        "tags": ["a", 'b"'],
    }
    assert set(second.values()) == {None}


def test_every_type_of_column_goes_into_csv(tmp_path: Path) -> None:
    """Bytes in base64, lists as JSON; what is null is empty."""
    file = tmp_path / "rows.csv"
    write(ADDED.to_batches(), ADDED.schema, Output.CSV, file)
    read = pa_csv.read_csv(file, convert_options=pa_csv.ConvertOptions(strings_can_be_null=True))
    assert read.to_pylist()[0] == {
        "liquidity": "MAKER",
        "raw": "/wA=",
        "hidden": True,
        "fee_ticks": 2**62,
        "tags": '["a","b\\""]',
    }


@pytest.mark.parametrize("output", [Output.PARQUET, Output.ARROW])
def test_every_type_of_column_comes_back_as_it_was(tmp_path: Path, output: Output) -> None:
    """Formats that have types keep them."""
    file = tmp_path / f"rows.{output}"
    write(ADDED.to_batches(), ADDED.schema, output, file)
    back = (
        pq.read_table(file)
        if output is Output.PARQUET
        else pa.ipc.open_stream(file.read_bytes()).read_all()
    )
    assert back.to_pylist() == ADDED.to_pylist()


def test_a_link_is_written_through_and_a_pipe_never_replaced(tmp_path: Path) -> None:
    """As a device is: a file put in its place would be there for everyone."""
    target, link, pipe = tmp_path / "rows.csv", tmp_path / "link.csv", tmp_path / "pipe.csv"
    target.write_text("old")
    link.symlink_to(target)
    write(ADDED.to_batches(), ADDED.schema, Output.CSV, link)
    assert link.is_symlink()
    assert "MAKER" in target.read_text()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(ADDED.to_batches(), ADDED.schema, Output.CSV, pipe)
    assert b"MAKER" in os.read(reader, 65_536)
    os.close(reader)
    assert pipe.is_fifo()
