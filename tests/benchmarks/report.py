"""The figures of one run as a table for people and as JSON for programs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import msgspec
from rich.console import Console
from rich.table import Table

from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.machine import load, machine, scheduling, today, versions


@dataclass(frozen=True, slots=True)
class Seen:
    """A moment, and how busy the machine was then."""

    load_average: str
    at_s: float

    @classmethod
    def now(cls) -> Seen:
        return cls(load(), time.monotonic())


@dataclass(frozen=True, slots=True)
class Report:
    figures: Sequence[Figure]
    before: Seen
    after: Seen
    scale: float
    machine: dict[str, str] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=versions)
    date: str = field(default_factory=today)
    scheduling: str = field(default_factory=scheduling)

    @property
    def seconds(self) -> float:
        return self.after.at_s - self.before.at_s


def as_json(report: Report) -> bytes:
    """Write everything as one JSON object."""
    figures = [asdict(figure) | {"met": figure.met} for figure in report.figures]
    whole = {
        "date": report.date,
        "machine": report.machine,
        "versions": report.versions,
        "load_average": {
            "before": float(report.before.load_average),
            "after": float(report.after.load_average),
        },
        "scheduling": report.scheduling,
        "seconds": report.seconds,
        "scale": report.scale,
        "figures": figures,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def show(console: Console, report: Report) -> None:
    """Print the table, and under it where it was measured."""
    table = Table(title="K2, measured", title_justify="left", show_edge=False, pad_edge=False)
    for name in ("what", "measured", "aim", "how"):
        table.add_column(name, no_wrap=name != "how")
    for figure in report.figures:
        table.add_row(figure.name, value_text(figure), aim_text(figure), f"[dim]{figure.note}[/]")
    console.print(table)
    console.print()
    for line in circumstances(report):
        console.print(f"[dim]{line}[/]")


def value_text(figure: Figure) -> str:
    texts = [f"{name} [bold]{number_text(value)}[/]" for name, value in figure.values.items()]
    if len(texts) == 1:
        return f"[bold]{number_text(next(iter(figure.values.values())))}[/] {figure.unit}"
    return f"{'  '.join(texts)} {figure.unit}".rstrip()


def aim_text(figure: Figure) -> str:
    if figure.aim is None:
        return ""
    colour = "green" if figure.met else "red"
    return f"[{colour}]{bound_text(figure.aim)} {figure.unit}[/]"


def bound_text(aim: Aim) -> str:
    return f"{aim.value} {'≥' if aim.at_least else '≤'} {number_text(aim.bound)}"


def number_text(number: float) -> str:
    """Print three digits that count, or all of a large number's."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def circumstances(report: Report) -> list[str]:
    where = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    using = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    busy = f"load average {report.before.load_average} before, {report.after.load_average} after"
    if report.scheduling:
        busy += f"; {report.scheduling}"
    scaled = "" if report.scale == 1 else f"; sizes times {report.scale:g}: not the named ones"
    return [where, using, f"{report.date}, {report.seconds:.0f} s, {busy}{scaled}"]
