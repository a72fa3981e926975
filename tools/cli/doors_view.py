"""The doors of a running K2, and one command to try for each."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from libs.runtime.doors import Door

_LIST_TRADES = (
    'grpcurl -plaintext -d \'{{"filter": {{"symbol": "BTCUSDT"}}, "page_size": 3}}\' {grpc}'
    " k2.query.v1.QueryService/ListTrades"
)
_TRY = {
    "governor": "grpcurl -plaintext {grpc} k2.governor.v1.GovernorService/GetState",
    "writer": "grpcurl -plaintext {grpc} k2.writer.v1.WriterService/GetStatus",
    "query": _LIST_TRADES,
    "ingestor": "grpcurl -plaintext {grpc} k2.ingestor.v1.IngestorService/ListFeeds",
    "simulator": "open http://{http}/",
}
FOR_PEOPLE = ("k2 trades BTCUSDT -n 5", "k2 bars BTCUSDT", "k2 tail", "k2 status")


def show_doors(console: Console, doors: Mapping[str, Door], bootstrap: str | None) -> None:
    """Print every address, and a command for it that can be copied whole."""
    console.print("[bold]Doors[/]")
    for service in _TRY:
        for door in doors.values():
            if door.service == service:
                _show(console, door)
    if bootstrap:
        _line(console, "kafka", bootstrap, f"kcat -b {bootstrap} -L")
    _line(console, "k2", "", "; ".join(FOR_PEOPLE))


def _show(console: Console, door: Door) -> None:
    http = door.extra.get("http", "")
    command = _TRY[door.service].format(grpc=door.grpc, http=http)
    _line(console, door.name, door.grpc or http, command)
    if door.metrics:
        _line(console, "", door.metrics, f"curl -s http://{door.metrics}/metrics | grep ^k2_")


def _line(console: Console, name: str, address: str, command: str) -> None:
    console.print(f"  [cyan]{name:<11}[/] {address:<16} [dim]$[/] {command}", soft_wrap=True)
