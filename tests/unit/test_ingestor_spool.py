"""The spool's files: order, bounds, and what a crash leaves of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from libs.market.clock import SystemClock
from libs.market.errors import ConflictError, CorruptError
from services.ingestor.delivering.records import Records
from services.ingestor.spool.entries import id_runs
from services.ingestor.spool.spool import Found, Spool, SpoolFullError
from tests.support.disks import SmallDisk

MIB = 2**20


def records(*ids: int, symbol: str = "BTCUSDT", size_bytes: int = 1) -> Records:
    values = [str(id_).encode().ljust(size_bytes, b" ") for id_ in ids]
    keys = [symbol.encode()] * len(ids)
    said = [[("traceparent", b"x")], *([[]] * (len(ids) - 1))]
    return Records("trades", 3, keys, values, said, np.array(ids))


def opened(folder: Path, most_bytes: int = MIB, segment_bytes: int = 2_000) -> tuple[Spool, Found]:
    spool = Spool(folder, most_bytes, SystemClock(), segment_bytes=segment_bytes)
    return spool, spool.open()


def drained(spool: Spool) -> Iterator[Records]:
    while (taken := spool.take()) is not None:
        yield from taken[1]
        spool.forget(taken[0])


def ids_in(found: Iterator[Records]) -> list[int]:
    return [int(value) for one in found for value in one.values]


def refusal_of(spool: Spool, *, size_bytes: int) -> str:
    """Append one record after another until one is refused, and return why."""
    try:
        for number in range(spool.records, 1_000):
            spool.append([records(number, size_bytes=size_bytes)])
    except SpoolFullError as error:
        return error.message
    raise AssertionError("a thousand records were taken")


def test_records_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Oldest first, over many files, with keys and headers; then nothing is left."""
    spool, _ = opened(tmp_path)
    for number in range(0, 300, 3):
        spool.append([records(number, number + 1), records(number + 2, symbol="ETHUSDT")])
    assert len(list(tmp_path.glob("*.spool"))) > 3
    out = list(drained(spool))
    assert ids_in(iter(out)) == list(range(300))
    assert (out[1].topic, out[1].partition, out[1].keys) == ("trades", 3, [b"ETHUSDT"])
    assert out[0].headers == [[("traceparent", b"x")], []]
    assert (spool.empty, spool.size_bytes, spool.records) == (True, 0, 0)
    spool.close()
    assert not list(tmp_path.glob("*.spool"))


def test_an_earlier_process_leaves_its_records_and_their_ids(tmp_path: Path) -> None:
    """Also one that was killed: what was appended is there without a close."""
    killed, _ = opened(tmp_path / "before")
    killed.append([records(1, 2, 3, 7, 8)])
    copytree(tmp_path / "before", tmp_path / "after")
    killed.close()
    spool, found = opened(tmp_path / "after")
    assert (found.records, found.runs, found.torn) == (
        5,
        [("BTCUSDT", 1, 3), ("BTCUSDT", 7, 8)],
        [],
    )
    spool.append([records(9)])
    assert ids_in(drained(spool)) == [1, 2, 3, 7, 8, 9]
    spool.close()


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_record_is_named_and_all_before_it_is_kept(tmp_path: Path, cut: int) -> None:
    """A crash in the middle of a write leaves some of its bytes."""
    killed, _ = opened(tmp_path)
    killed.append([records(1, 2)])
    whole = killed.size_bytes
    killed.append([records(3, 4)])
    killed.close()
    (file,) = tmp_path.glob("*.spool")
    file.write_bytes(file.read_bytes()[: -cut if cut > 1 else whole + 1])
    spool, found = opened(tmp_path)
    assert [torn.lost_bytes > 0 for torn in found.torn] == [True]
    assert found.torn[0].path.suffix == ".torn"
    assert ids_in(drained(spool)) == [1, 2]
    spool.close()


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    """What follows it in that file is set aside; the next files are read."""
    killed, _ = opened(tmp_path, segment_bytes=1)
    for number in (1, 2, 3):
        killed.append([records(number)])
    killed.close()
    first = sorted(tmp_path.glob("*.spool"))[0]
    damaged = bytearray(first.read_bytes())
    damaged[-1] ^= 0xFF
    first.write_bytes(bytes(damaged))
    spool, found = opened(tmp_path)
    assert "checksum" in found.torn[0].because
    assert found.runs == [("BTCUSDT", 2, 2), ("BTCUSDT", 3, 3)]
    assert ids_in(drained(spool)) == [2, 3]
    spool.close()


def test_a_file_that_is_damaged_meanwhile_is_not_taken_for_empty(tmp_path: Path) -> None:
    """It was whole when this process wrote it: the next one sets it aside and says so."""
    spool, _ = opened(tmp_path)
    spool.append([records(1)])
    file = next(tmp_path.glob("*.spool"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptError, match="checksum"):
        spool.take()
    assert spool.records == 1
    spool.close()


def test_a_full_spool_refuses_all_or_nothing_and_takes_again(tmp_path: Path) -> None:
    """Its bound holds; what is taken out makes room."""
    spool, _ = opened(tmp_path, most_bytes=8_000, segment_bytes=1_000)
    assert "8000 bytes" in refusal_of(spool, size_bytes=900)
    taken = spool.records
    assert taken > 5
    assert spool.size_bytes <= 8_000
    found = spool.take()
    assert found is not None
    spool.forget(found[0])
    spool.append([records(taken, size_bytes=900)])
    assert ids_in(drained(spool)) == list(range(1, taken + 1))
    spool.close()


def test_a_full_disk_is_a_full_spool_and_tears_nothing(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """What did not go in whole is not there; with room again it goes on."""
    spool, _ = opened(small_disk.folder / "spool")
    spool.append([records(0)])
    small_disk.fill()
    assert "No space left" in refusal_of(spool, size_bytes=50_000)
    small_disk.free()
    spool.append([records(500)])
    spool.close()
    again, found = opened(small_disk.folder / "spool")
    assert not found.torn
    ids = ids_in(drained(again))
    assert (ids[0], ids[-1]) == (0, 500)
    assert ids == sorted(ids)
    again.close()


def test_what_came_first_goes_to_the_front(tmp_path: Path) -> None:
    """Records that were in memory when the process ended came before those in files."""
    spool, _ = opened(tmp_path)
    spool.append([records(5, 6)])
    spool.put_first([records(3, 4)])
    spool.put_first([records(1, 2)])
    spool.close()
    again, _ = opened(tmp_path)
    assert ids_in(drained(again)) == [1, 2, 3, 4, 5, 6]
    again.close()


def test_a_folder_is_one_ingestors(tmp_path: Path) -> None:
    """A second one says so and does not start."""
    spool, _ = opened(tmp_path)
    with pytest.raises(ConflictError, match="K2_INGESTOR_SPOOL_DIR"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path)[0].close()


def test_runs_of_ids_are_named_by_symbol() -> None:
    """Records of one partition may be of several symbols, in any order."""
    keys = [b"A", b"B", b"A", b"A", b"B"]
    mixed = Records("t", 0, keys, [b""] * 5, (), np.array([1, 9, 2, 4, 10]))
    assert id_runs(mixed) == [("A", 1, 2), ("A", 4, 4), ("B", 9, 10)]


def test_what_was_torn_before_stays_beside_what_is_torn_now(tmp_path: Path) -> None:
    """File numbers begin anew once the spool is empty."""
    contents = []
    for id_ in (1, 2):
        killed, _ = opened(tmp_path)
        killed.append([records(id_)])
        killed.close()
        (file,) = tmp_path.glob("*.spool")
        file.write_bytes(file.read_bytes()[:-1])
        contents.append(file.read_bytes())
        spool, found = opened(tmp_path)
        assert [torn.path.read_bytes() for torn in found.torn] == contents[-1:]
        spool.close()
    assert sorted(torn.read_bytes() for torn in tmp_path.glob("*.torn")) == sorted(contents)
