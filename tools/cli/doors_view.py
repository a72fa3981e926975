"""The doors of a running K2, and one command to try for each."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from libs.runtime.doors import Door
from tools.cli.output import grid

_TRY = {
    "query": 'grpcurl -plaintext -d \'{{"filter":{{"symbol":"BTCUSDT"}},"page_size":3}}\' {grpc}'
    " k2.query.v1.QueryService/ListTrades",
    "ingestor": "grpcurl -plaintext {grpc} k2.ingestor.v1.IngestorService/ListFeeds",
    "writer": "grpcurl -plaintext {grpc} k2.writer.v1.WriterService/GetStatus",
    "governor": "grpcurl -plaintext {grpc} k2.governor.v1.GovernorService/GetState",
}


def show_doors(console: Console, doors: Mapping[str, Door], bootstrap: str | None) -> None:
    """Print every address, and a command for it that can be copied."""
    table = grid(("door", "address", "try"))
    for name, door in doors.items():
        if door.grpc:
            table.add_row(name, door.grpc, _TRY.get(door.service, "").format(grpc=door.grpc))
        if door.metrics:
            table.add_row("", door.metrics, f"curl -s http://{door.metrics}/metrics | grep k2_")
        if "http" in door.extra:
            table.add_row(name, door.extra["http"], f"open http://{door.extra['http']}/")
    if bootstrap:
        table.add_row("kafka", bootstrap, f"kcat -b {bootstrap} -L")
    table.add_row("k2", "", "k2 trades BTCUSDT -n 5; k2 bars BTCUSDT; k2 tail; k2 status")
    console.print(table)
