"""Every metric says its unit and its meaning, and every log field is its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("libs", "services", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if "_pb2" not in path.name
]
# What a number counts or measures; a gauge of 0 and 1 says what 1 is.
UNITS = {
    *("bytes", "seconds", "records", "rows", "trades", "files", "messages", "frames", "queries"),
    *("partitions", "topics", "processes", "connections", "requests", "letters", "ids", "weight"),
    *("level", "replicas", "gaps", "offsets", "commits", "batches", "holds", "restarts", "steps"),
    *("pushes", "refusals", "claims", "reconnects", "pauses", "failures", "depth", "capacity"),
    *("second", "outlived", "due", "out", "used"),
}
FIELDS_OF_EVERY_EVENT = {"event", "level", "time", "service", "logger", "trace_id", "exception"}
LOGGED = {"debug", "info", "warning", "error", "exception"}


def families() -> list[Metric]:
    for path in SOURCES:
        if "prometheus_client" in path.read_text() and path.is_relative_to(ROOT / "services"):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [family for family in REGISTRY.collect() if family.name.startswith("k2_")]


def calls_of_log(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=name)):
                if name in LOGGED:
                    yield node


def test_every_metric_says_what_it_is_and_in_what_unit() -> None:
    """By its name and its HELP alone, for they are all that a dashboard's author sees."""
    found = families()
    assert len(found) > 60
    for family in found:
        words = family.name.split("_")
        is_switch = "1 while" in family.documentation
        assert is_switch or UNITS & set(words[1:]), f"{family.name} says no unit"
        assert len(family.documentation.split()) >= 3, f"{family.name}: {family.documentation}"
        assert not family.documentation.startswith(("Their", "Of these")), family.name


def test_no_two_metrics_say_the_same() -> None:
    """One HELP is one metric's."""
    texts = [family.documentation for family in families()]
    assert sorted(texts) == sorted(set(texts))


@pytest.mark.parametrize("folder", ["libs", "services", "tools"])
def test_no_event_overwrites_what_every_event_has(folder: str) -> None:
    """A fact named `level` or `time` would be lost: the log puts its own there."""
    lost = [
        f"{path.relative_to(ROOT)}:{call.lineno} {word.arg}"
        for path in SOURCES
        if path.is_relative_to(ROOT / folder)
        for call in calls_of_log(path)
        for word in call.keywords
        if word.arg in FIELDS_OF_EVERY_EVENT
    ]
    assert lost == []
