"""What a run leaves behind: the table, the JSON record, and the pictures drawn from it."""

import itertools
import json
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest
from load.answer import Answer, Failure, FailureKind
from load.figures import Figures
from load.flags import read_flags
from load.loads import ClosedLoop, Load, OpenLoop
from load.measure import Measurement
from load.plots import HEIGHT, WIDTH, draw_plots
from load.prepare import Prepared
from load.prompts import Lengths, RandomPrompts
from load.record import MOST_BARS, result_record
from load.table import notes, result_table, sweep_table
from load.target import Target
from load.template import RequestTemplate
from load.vocabulary import ids_below
from load.watch import ClientFacts

START = 50.0
# Every row that `vllm bench serve` prints for these percentiles, in its order.
VLLM_ROWS = [
    "Successful requests:",
    "Failed requests:",
    "Maximum request concurrency:",
    "Request rate configured (RPS):",
    "Benchmark duration (s):",
    "Total input tokens:",
    "Total generated tokens:",
    "Request throughput (req/s):",
    "Request goodput (req/s):",
    "Output token throughput (tok/s):",
    "Peak output token throughput (tok/s):",
    "Peak concurrent requests:",
    "Total token throughput (tok/s):",
    *(
        f"{part} {name} (ms):"
        for name in ("TTFT", "TPOT", "ITL", "E2EL", "Client Queue Time", "E2EL incl. Client Queue")
        for part in ("Mean", "Median", "P90", "P99")
    ),
]


def measured(load: Load, num_answers: int = 20, num_failed: int = 1, cpu_share: float = 0.2) -> Measurement:
    answers = []
    for i in range(num_answers):
        sent = START + 0.1 * i
        failure = Failure(FailureKind.REFUSED, "the queue is full", 429) if i < num_failed else None
        chunks = array("d") if failure else array("d", [sent + 0.05, sent + 0.07, sent + 0.09])
        answers.append(Answer(i, sent - 0.02, sent, sent + 0.1, chunks, 8, 3, failure))
    figures = Figures.of(answers, START, {"ttft": 40}, is_queued=isinstance(load, OpenLoop))
    client = ClientFacts(num_answers, cpu_share, 0.001, 0.002, 0.003)
    return Measurement(load, START, tuple(answers), figures, (client,), False)


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    settings = read_flags(["--concurrency", "1,4", "--goodput", "ttft:40", "--api-key", "hush", "--save-requests"])
    source = RandomPrompts(ids_below(1000), Lengths(8, 3), 0)
    target = Target("http://127.0.0.1:8000", "completions", "demo", "hush")
    prepared = Prepared(target, 1024, source, RequestTemplate("demo", False), "ids")
    made = result_record(settings, prepared, [measured(ClosedLoop(1)), measured(ClosedLoop(4), 300, 2)])
    # What is drawn later is what was written.
    read: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return read


def test_the_table_has_every_row_of_vllms_in_its_order() -> None:
    load = OpenLoop(8.0, 1.0, 2)
    lines = result_table(load, measured(load).figures).splitlines()
    rows = [line[:40].rstrip() for line in lines]
    at = -1
    for name in VLLM_ROWS:
        at = rows.index(name, at + 1)
    values = {line[:40].rstrip(): line[41:] for line in lines}
    assert values["Successful requests:"] == "19"
    assert values["Failed requests:"] == "1"
    assert values["  refused 429:"] == "1"
    assert values["Request rate configured (RPS):"] == "8.00"
    assert values["Total generated tokens:"] == "57"
    assert values["Mean TTFT (ms):"] == "50.00"
    assert values["Median TPOT (ms):"] == "20.00"
    assert values["P99 E2EL (ms):"] == "90.00"
    assert values["Mean Client Queue Time (ms):"] == "20.00"
    assert values["Request goodput (req/s):"] == "0.00"
    assert lines[0] == "============ Serving Benchmark Result ============"
    assert lines[-1] == "=" * 50


def test_a_closed_loop_has_no_client_queue() -> None:
    table = result_table(ClosedLoop(2), measured(ClosedLoop(2)).figures)
    assert "Client Queue" not in table and "RPS" not in table


def test_what_must_be_known_is_said() -> None:
    said = notes(measured(ClosedLoop(2), cpu_share=0.99))
    assert said[0] == "1 x refused: the queue is full"
    assert said[1].startswith("The client was the limit (a client process took 99% of a core; --processes 1)")
    assert notes(measured(ClosedLoop(2), num_failed=0)) == []
    (nothing,) = [note for note in notes(measured(ClosedLoop(2), 3, 3)) if "No request" in note]
    assert nothing == "No request succeeded, so there are no latencies"


def test_a_sweep_has_a_row_each() -> None:
    lines = sweep_table([measured(ClosedLoop(1)), measured(ClosedLoop(16), 3, 3, cpu_share=1.0)]).splitlines()
    assert lines[0].split() == (
        "load ok failed req/s tok/s good/s TTFT p50 TTFT p99 TPOT p50 TPOT p99 E2EL p50 E2EL p99 client".split()
    )
    assert lines[1].split()[:4] == ["concurrency", "1", "19", "1"]
    assert lines[2].split()[-8:] == ["0.00", "-", "-", "-", "-", "-", "-", "limit"]


def test_the_record_says_what_was_asked_and_measured(record: dict[str, Any]) -> None:
    assert record["settings"]["input_len"] == 128 and record["settings"]["goodput_limits_ms"] == {"ttft": 40}
    assert not record["is_partial"] and not record["client_is_limit"]
    first, second = record["loads"]
    assert first["load"]["label"] == "concurrency 1" and first["load"]["amount"] == 1
    assert first["figures"]["ttft"]["median"] == pytest.approx(50)
    assert first["figures"]["failures"] == [
        {"kind": "refused", "status": 429, "count": 1, "message": "the queue is full"}
    ]
    assert second["client"]["processes"][0]["lag_p99"] == 0.002
    assert len(second["timeline"]["sent"]) <= MOST_BARS < second["timeline"]["num_requests"] == 300
    width = first["timeline"]["bucket_seconds"]
    assert sum(first["timeline"]["chunks_per_second"]) * width == pytest.approx(57, rel=0.01)
    assert max(first["timeline"]["under_way"]) >= 1
    assert len(second["requests"]) == 300
    assert second["requests"][5]["chunks"] == "0.550000 0.570000 0.590000"
    assert "hush" not in json.dumps(record)


def test_an_infinite_load_is_still_json() -> None:
    settings = read_flags(["--rate", "inf", "--burstiness", "inf"])
    source = RandomPrompts(ids_below(1000), Lengths(8, 3), 0)
    prepared = Prepared(Target("", "chat", "m"), None, source, RequestTemplate("m", True), "text")
    empty = Measurement(settings.loads[0], START, (), Figures.of([], START), (), True)
    made = result_record(settings, prepared, [empty])
    assert made["is_quiet"] is None
    assert result_record(settings, prepared, [empty], 0.01)["is_quiet"] is True
    assert result_record(settings, prepared, [empty], 0.9)["is_quiet"] is False
    assert made["is_partial"] and json.dumps(made, allow_nan=False)


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its header (the first chunk of any PNG)."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_pictures_are_drawn_from_the_record(record: dict[str, Any], tmp_path: Path) -> None:
    paths = draw_plots(record, tmp_path / "plots", "x")
    assert [path.name for path in paths] == ["x_load.png", "x_timeline_0.png", "x_timeline_1.png"]
    for path in paths:
        assert png_size(path) == (WIDTH, HEIGHT)
    contents = [path.read_bytes() for path in paths]
    assert all(one != other for one, other in itertools.combinations(contents, 2))


def test_pictures_of_failures_and_of_nothing(record: dict[str, Any], tmp_path: Path) -> None:
    """A load without any answer still has a place in the sweep, and one without any request no timeline."""
    settings = read_flags(["--rate", "1,inf"])
    source = RandomPrompts(ids_below(1000), Lengths(8, 3), 0)
    prepared = Prepared(Target("", "completions", "m"), None, source, RequestTemplate("m", False), "ids")
    nothing = Measurement(settings.loads[1], START, (), Figures.of([], START), (), True)
    made = result_record(settings, prepared, [measured(OpenLoop(1.0), 3, 3), nothing])
    assert [path.name for path in draw_plots(made, tmp_path, "y")] == ["y_load.png", "y_timeline_0.png"]
