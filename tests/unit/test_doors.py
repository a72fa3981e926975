"""Doors: published whole, found while their process lives, withdrawn by their owner."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from libs.market.errors import ConflictError
from libs.runtime.doors import Door, find, publish, unreadable, withdraw


def test_published_door_is_found(tmp_path: Path) -> None:
    """With every address, in a folder that need not be there yet."""
    door = Door("writer-1", "writer", "127.0.0.1:1", "127.0.0.1:2", {"page": "http://x"})

    publish(tmp_path / "run", door)

    assert find(tmp_path / "run") == {"writer-1": door}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["writer-1.json"]


def test_withdrawn_door_is_gone(tmp_path: Path) -> None:
    """Twice does no harm."""
    door = Door("writer-1", "writer")
    publish(tmp_path, door)

    withdraw(tmp_path, door)
    withdraw(tmp_path, door)

    assert find(tmp_path) == {}
    assert find(tmp_path / "never made") == {}


def test_door_of_a_dead_process_is_passed_over(tmp_path: Path) -> None:
    """What a killed process left is neither found nor in the way."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = Door("writer-1", "writer", pid=ended.pid, process_started_s=0)
    (tmp_path / "writer-1.json").touch()
    (tmp_path / "writer-1.json").unlink()
    publish(tmp_path, left)

    assert find(tmp_path) == {}
    publish(tmp_path, Door("writer-1", "writer"))
    assert find(tmp_path)["writer-1"].pid == os.getpid()


def test_a_killed_process_that_nobody_waits_for_is_dead(tmp_path: Path) -> None:
    """In a container without an init it keeps its id for ever; its name is free all the same."""
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with killed:
        began_s = psutil.Process(killed.pid).create_time()
        publish(tmp_path, Door("writer-1", "writer", pid=killed.pid, process_started_s=began_s))
        assert "writer-1" in find(tmp_path)

        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)

        assert find(tmp_path) == {}
        publish(tmp_path, Door("writer-1", "writer"))


def test_reused_process_id_is_not_mistaken(tmp_path: Path) -> None:
    """The same id with another start time is another process."""
    publish(tmp_path, Door("writer-1", "writer", process_started_s=1.0))

    assert find(tmp_path) == {}


def test_name_of_a_living_process_is_refused(tmp_path: Path) -> None:
    """Two writers named alike would overwrite each other's door."""
    parent = psutil.Process().parent()
    assert parent is not None
    held = Door("writer-1", "writer", pid=parent.pid, process_started_s=parent.create_time())
    publish(tmp_path, held)

    with pytest.raises(ConflictError, match=f"writer-1 runs already as process {parent.pid}"):
        publish(tmp_path, Door("writer-1", "writer"))
    withdraw(tmp_path, Door("writer-1", "writer"))
    assert find(tmp_path) == {"writer-1": held}


def test_what_is_not_a_door_is_named_and_passed_over(tmp_path: Path) -> None:
    """The others are found; whose name the file has publishes over it."""
    (tmp_path / "writer-1.json").write_text("{")
    query = Door("query-1", "query")
    publish(tmp_path, query)

    assert find(tmp_path) == {"query-1": query}
    assert unreadable(tmp_path) == (tmp_path / "writer-1.json",)
    withdraw(tmp_path, Door("writer-1", "writer"))
    publish(tmp_path, Door("writer-1", "writer"))
    assert find(tmp_path).keys() == {"query-1", "writer-1"}
    assert unreadable(tmp_path) == ()


def test_readers_never_see_half_a_door(tmp_path: Path) -> None:
    """A reader beside a writer sees one whole door or the other."""
    short, long = Door("w", "writer"), Door("w", "writer", extra={"pad": "x" * 100_000})
    publish(tmp_path, short)
    stop = threading.Event()

    def alternate() -> None:
        while not stop.is_set():
            publish(tmp_path, long)
            publish(tmp_path, replace(short, grpc="127.0.0.1:1"))

    writer = threading.Thread(target=alternate)
    writer.start()
    try:
        lengths = {len(find(tmp_path)["w"].extra) for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert lengths <= {0, 1}
