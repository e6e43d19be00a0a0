"""`benchmarks/front_end.py`: what it counts is what was sent, and its run is a result that the report can show."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import report
from front.bare_server import chunk_of
from front.crowd import CrowdError, Round, crowd
from front.metrics_page import Lags
from front.processes import bare_server, crowd_at
from real_server import Served, serving
from reports import front_end
from reports.record import read_record

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "front_end.py"

PAGE = """\
penstock_event_loop_lag_seconds_bucket{le="0.001"} %d.0
penstock_event_loop_lag_seconds_bucket{le="0.01"} %d.0
penstock_event_loop_lag_seconds_bucket{le="+Inf"} %d.0
penstock_event_loop_lag_seconds_count 9.0
"""


@pytest.mark.parametrize("num_bytes", [64, 99, 271, 4200])
def test_the_bare_server_s_chunks_are_as_large_as_asked_for(num_bytes: int) -> None:
    size, _, rest = chunk_of(num_bytes).partition(b"\r\n")
    assert len(rest) == int(size, 16) + 2
    # The size's own digits depend on the size: a byte more or less.
    assert abs(len(chunk_of(num_bytes)) - num_bytes) <= 1


def test_a_crowd_counts_every_chunk() -> None:
    with bare_server(100, 50) as (url, _), crowd_at(url, "any") as streams:
        for num_streams in (1, 9):
            figures = streams.run(Round(num_streams, 50))
            assert figures.num_chunks == num_streams * 50
            assert figures.num_bytes >= num_streams * 50 * len(chunk_of(100))
            assert len(figures.first_chunks) == num_streams
            assert 0 < figures.first_chunks[0] <= figures.first_chunks[-1] <= figures.seconds


def test_lags_are_told_by_the_bound_that_most_kept() -> None:
    before, after = Lags.read(PAGE % (10, 10, 10)), Lags.read(PAGE % (108, 109, 110))
    assert before is not None and after is not None
    since = after.since(before)
    assert since.quantile(0.98) == 0.001 and since.quantile(0.99) == 0.01 and since.quantile(1.0) is None
    assert before.since(before).quantile(0.99) is None
    assert Lags.read("another_metric 1.0\n") is None


@pytest.fixture(scope="module")
def null_server() -> Iterator[Served]:
    with serving("null:") as served:
        yield served


def test_a_crowd_counts_what_a_server_sends_it(null_server: Served) -> None:
    """Chunks that begin in one read and end in another are counted once."""
    figures = asyncio.run(crowd(null_server.url, "null", Round(8, 40)))
    assert figures.num_chunks == 8 * 40, "one a token: the last one carries the reason, too"
    with pytest.raises(CrowdError, match="404"):
        asyncio.run(crowd(null_server.url, "another", Round(2, 1)))


def test_a_run_is_a_result_that_the_report_shows(null_server: Served, tmp_path: Path) -> None:
    flags = ["--streams", "4", "--tokens", "10", "--rounds", "2", "--first-tokens", "5", "--results", str(tmp_path)]
    target = ["--url", null_server.url, "--pid", str(null_server.process.pid), "--model", "null"]
    done = subprocess.run([sys.executable, str(SCRIPT), *flags, *target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "front_end.json"
    (case,) = json.loads(path.read_text())["cases"]
    assert (case["workers"], case["streams"], len(case["rounds"])) == (1, 4, 2)
    # The last chunk of a stream comes with more bytes than the others; none of a model comes with it.
    assert 100 < case["bytes_per_chunk"] < 1000
    section = front_end.render(read_record(path))
    assert "| 1 | 4 |" in section.blocks[1]
    assert "First token" in section.blocks[2]
    assert report.kind_of(read_record(path)) == "front_end"
