"""Run by a Python that has DuckDB 1.5: a table's metadata file to a Parquet file of its rows."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb


def main(packages: str, metadata_location: str, answer: str) -> None:
    connection = duckdb.connect()
    for name in ("avro", "iceberg"):
        (extension,) = Path(packages).glob(f"duckdb_extension_{name}/**/{name}.duckdb_extension")
        connection.load_extension(str(extension))
    rows = connection.sql("SELECT * FROM iceberg_scan(?)", params=[metadata_location])
    rows.write_parquet(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
