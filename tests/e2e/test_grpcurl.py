"""The calls that the README and `k2 status` print, by the real grpcurl and no proto files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from libs.runtime.doors import find
from tests.support.cli import Home
from tests.support.processes import ROOT
from tools.cli.parts.fleet import PORTS

CALL_TIMEOUT_S = 60
README = (ROOT / "README.md").read_text()
README_CALLS = re.findall(r"^grpcurl .*$", README, re.MULTILINE)
SERVICES = {str(port): service for service, port in PORTS.items()}


def address(home: Home, service: str) -> str:
    doors = find(home.root / "up" / "run").values()
    return next(door.grpc for door in doors if door.service == service and door.grpc)


def here(home: Home, line: str) -> str:
    """Return the call with the running K2's addresses for the usual ones."""
    return re.sub(r"localhost:(\d+)", lambda found: address(home, SERVICES[found[1]]), line)


def called(grpcurl: Path, line: str) -> str:
    words = [str(grpcurl), *shlex.split(line)[1:]]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=CALL_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def test_the_readme_has_calls() -> None:
    """Or the test below would test nothing."""
    assert len(README_CALLS) >= 3


@pytest.mark.parametrize("line", README_CALLS)
def test_a_call_of_the_readme_works(k2_up: Home, grpcurl: Path, line: str) -> None:
    """It answers with something, from real services."""
    assert called(grpcurl, here(k2_up, line)).strip() not in ("", "{}")


def test_every_call_that_status_prints_works(k2_up: Home, grpcurl: Path) -> None:
    """They can be copied as they stand: one for each service."""
    shown = re.findall(r"\$ (grpcurl .*)$", k2_up.k2("status", "-o", "table").text, re.MULTILINE)
    assert len(shown) == 4
    for line in shown:
        assert json.loads(called(grpcurl, line))


def test_trades_come_as_text_with_their_provenance(k2_up: Home, grpcurl: Path) -> None:
    """Decimals keep every digit, and the answer says that it is complete."""
    line = next(line for line in README_CALLS if "ListTrades" in line)
    answer = json.loads(called(grpcurl, here(k2_up, line)))
    assert answer["provenance"]["complete"] is True
    assert len(answer["trades"]) == 2
    assert all(isinstance(trade["price"], str) for trade in answer["trades"])
