"""The arithmetic of the benchmark."""

from __future__ import annotations

import os

import msgspec
import psutil
import pytest

from tests.benchmarks.figures import Aim, Figure, Peaks, Reading, throughput
from tests.benchmarks.processes import high_water_bytes, peak_bytes, reading
from tests.benchmarks.query_latency import Latency
from tests.benchmarks.report import Report, Seen, as_json, number_text


def test_throughput_counts_what_was_done_between_the_readings() -> None:
    """Neither the work nor the CPU time of the warm-up is in the figure."""
    before, after = Reading(100, 3.0, 10.0), Reading(1_100, 5.0, 30.0)
    figure = throughput("rows", before, after, aim=500, note="")
    assert figure.values == {"per CPU-s": 500.0, "per s": 50.0}
    assert figure.met


@pytest.mark.parametrize(("at_least", "met"), [(True, False), (False, True)])
def test_aim_is_a_bound_from_one_side(at_least: bool, met: bool) -> None:
    """9 ms meets an aim of at most 10, 9 rows do not meet one of at least 10."""
    assert Aim("p99", 10, at_least=at_least).met_by({"p50": 99, "p99": 9}) is met


def test_figure_without_an_aim_meets_nothing() -> None:
    """No aim is neither met nor missed."""
    assert Figure("memory", {"MiB": 1}, "MiB").met is None


def test_percentiles_are_of_all_calls_in_milliseconds() -> None:
    """Of 0 to 100 ms in steps of one, the p99 is 99."""
    found = Latency.of("q", [number / 1_000 for number in range(101)])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx((50, 95, 99))
    assert found.calls == 101


def test_cpu_time_is_of_the_process_that_was_asked_for() -> None:
    """Work of our own shows in our own reading, user and system together."""
    before = reading(os.getpid(), 0)
    while (after := reading(os.getpid(), 1)).cpu_s < before.cpu_s + 0.05:
        sum(range(10_000))
    assert after.wall_s - before.wall_s >= (after.cpu_s - before.cpu_s) / (os.cpu_count() or 1) / 2


def test_high_water_is_read_in_kibibytes() -> None:
    """The kernel says kB and means KiB; what is resident now is not asked for."""
    assert high_water_bytes("Name:\tk2\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n") == 2 * 2**20


def test_peak_is_what_was_ever_resident() -> None:
    """It does not fall when memory is given back; the kernel counts it to some pages."""
    block = b"x" * (64 * 2**20)
    held = psutil.Process().memory_info().rss
    del block
    assert peak_bytes(os.getpid()) >= held * 0.99


def test_peaks_keep_the_highest_of_each_service() -> None:
    """And say when it was."""
    peaks = Peaks()
    for size, during in ((2, "at rest"), (3, "under load"), (1, "afterwards")):
        peaks.saw("writer", size * 2**20, during)
    (figure,) = peaks.figures()
    assert (figure.values, figure.note) == ({"MiB": 3.0}, "under load")


def test_json_has_every_figure_and_where_it_was_measured() -> None:
    """What the table shows a program can read."""
    figure = Figure("last 10", {"p50": 1.5}, "ms", Aim("p50", 2))
    moment = Seen("0.50", 1.0)
    found = msgspec.json.decode(as_json(Report((figure,), moment, Seen("1.00", 11.0), 1)))
    assert found["figures"][0]["met"] is True
    assert (found["seconds"], found["load_average"]) == (10.0, {"before": 0.5, "after": 1.0})
    assert found["machine"]["cores"] == str(os.cpu_count())


@pytest.mark.parametrize(
    ("number", "text"), [(262_526.4, "262,526"), (12.345, "12.3"), (0.36349, "0.363")]
)
def test_numbers_show_the_digits_that_count(number: float, text: str) -> None:
    """Three of them, or a large number whole."""
    assert number_text(number) == text
