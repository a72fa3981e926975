"""What an answer was computed from, and what it lacks: said on stderr, below the answer."""

from __future__ import annotations

from k2.query.v1 import query_pb2 as pb
from rich.console import Console

MOST_NAMED = 5
_ENDLESS = {
    "LOG_UNREACHABLE": "the log cannot be reached",
    "ANOTHER_LOG": "the log is another one than the table's",
    "UNREADABLE_BATCH": "a record batch cannot be read",
}


def lacking(gap: pb.MissingRange) -> str:
    """Name a range; of one whose end nobody knows, the topic and why."""
    if gap.reason in _ENDLESS:
        return f"what is new in {gap.topic}: {_ENDLESS[gap.reason]}"
    if gap.HasField("first_id"):
        return f"ids {gap.first_id} to {gap.last_id} of {gap.symbol} ({gap.reason})"
    if not gap.topic:
        return f"a proof: {gap.detail}"
    return f"{gap.topic}/{gap.partition} [{gap.start}, {gap.end}) {gap.reason}"


def tell_lacks(provenance: pb.Provenance, *, was_complete: bool) -> None:
    """Say on stderr what a follower is not shown, and when nothing is missing any more."""
    if not (provenance.complete and was_complete):
        Console(stderr=True, highlight=False).print(_verdict(provenance), soft_wrap=True)


def _verdict(provenance: pb.Provenance) -> str:
    if provenance.complete:
        return "[green]complete[/]"
    lacks = ", ".join(dict.fromkeys(map(lacking, provenance.lacks[:MOST_NAMED])))
    if provenance.lacks_total > MOST_NAMED:
        lacks += f" and {provenance.lacks_total - MOST_NAMED:,} more: see `k2 completeness`"
    return f"[yellow]not complete[/]: lacks {lacks or 'what is not known yet'}"


def footnote(rows: int, provenance: pb.Provenance) -> None:
    """Say on stderr what the answer was computed from."""
    hint = "" if rows else ": `k2 symbols` lists what there is"
    behind = f", {provenance.behind_log} behind the log" if provenance.behind_log else ""
    counted = "1 row" if rows == 1 else f"{rows} rows"
    Console(stderr=True, highlight=False).print(
        f"[dim]{counted}, snapshot {provenance.snapshot_id or 'none'} and the tail{behind},[/]"
        f" {_verdict(provenance)}{hint}",
        soft_wrap=True,
    )
