"""The doors of a running K2, and one command to try for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

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
    "simulator": "curl -s http://{http}/api/v3/exchangeInfo | head -c 300",
}
FOR_PEOPLE = ("k2 trades BTCUSDT -n 5", "k2 bars BTCUSDT", "k2 tail", "k2 status")


def show_doors(console: Console, doors: Mapping[str, Door], bootstrap: str | None) -> None:
    """Print every address, and a command for it that can be copied whole."""
    console.print("[bold]Addresses[/], and a command to try for each")
    for service in _TRY:
        for door in doors.values():
            if door.service == service:
                _show(console, door)
    if bootstrap:
        _entry(console, "kafka", bootstrap, [f"kcat -b {bootstrap} -L"])
    _entry(console, "k2", "the same for people", FOR_PEOPLE)


def _show(console: Console, door: Door) -> None:
    http = door.extra.get("http", "")
    commands = [_TRY[door.service].format(grpc=door.grpc, http=http)]
    if door.metrics:
        commands.append(f"curl -s http://{door.metrics}/metrics | grep ^k2_")
    where = f"{door.grpc}, metrics {door.metrics}" if door.grpc else f"http://{http}/"
    _entry(console, door.name, where, commands)


def _entry(console: Console, name: str, where: str, commands: Iterable[str]) -> None:
    """Print commands on lines of their own: most fit, and can be copied, on a narrow screen."""
    console.print(f"  [cyan]{name}[/] [dim]{where}[/]", soft_wrap=True)
    for command in commands:
        console.print("    [dim]$[/]", Text(command), soft_wrap=True)
