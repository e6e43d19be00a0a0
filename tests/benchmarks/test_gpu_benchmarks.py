"""The GPU benchmarks: tiny, on a CPU, they run to their end, all sides agree, and the report has their sections."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_attention
import gpu_bench
import gpu_ops
import pytest
import report
import torch
from gpu_step import SIDES
from kernels.contest import Contest, Goal, Side, Step, WrongResult, check
from kernels.floors import Floors
from kernels.hold import Held, hold
from machine import RESULTS
from model_shapes import MODELS, kv_bytes_per_token, weight_bytes_per_step
from reports import gpu_attention as attention_section
from reports import gpu_ops as ops_section
from reports import gpu_step as step_section
from reports.gpu import goal_text
from reports.record import read_record

import penstock_kernels
from penstock_models.parameters import list_parameters

CPU = torch.device("cpu")
FLOORS = Floors(copy_bandwidth=1e9, read_bandwidth=1e9, matmul_rate=1e9)
# On a GPU the ops' own tests are quicker, and the benchmarks themselves run there.
TINY = "--device cpu --scale tiny --tables reference fused --results".split()
OPS = {path.parent.name for path in Path(penstock_kernels.__file__).parent.glob("*/__init__.py")}

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="fused kernels run on a CPU only when interpreted")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of tiny runs, in which nothing failed."""
    folder = tmp_path_factory.mktemp("results")
    threads = torch.get_num_threads()
    try:
        gpu_ops.main([*TINY, str(folder)])
        gpu_attention.main([*TINY, str(folder)])
    finally:
        torch.set_num_threads(threads)
    return folder


# What is not on a machine that has torch, Triton and numpy, and might be imported by a benchmark all the same.
NOT_NEEDED = """
    PIL fastapi huggingface_hub jinja2 llguidance matplotlib msgspec orjson psutil pydantic safetensors scipy tokenizers
    tqdm transformers zmq
""".split()
BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of the steps, measured as on a bare machine."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(BARE.format(names=set(NOT_NEEDED)))
    command = [sys.executable, str(RESULTS.parent / "gpu_bench.py"), "--only", "gpu_step", "--scale", "tiny"]
    command += ["--device", "cpu", "--results", str(folder), "--commit", "0123456789abcdef"]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "gpu_step.json"


def contests_of(results: Path, name: str) -> list[dict[str, Any]]:
    record = json.loads((results / f"{name}.json").read_text())
    contests: list[dict[str, Any]] = record["contests"]
    assert record["problems"] == [] and record["not_measured"] == []
    return contests


def test_every_op_is_measured_and_its_sides_agree(results: Path) -> None:
    contests = contests_of(results, "gpu_ops") + contests_of(results, "gpu_attention")
    assert {contest["op"] for contest in contests} == OPS
    for contest in contests:
        assert {"reference", "fused"} <= contest["sides"].keys(), contest
        assert contest["not_available"] == {}
        assert contest["floor_seconds"] > 0
        assert all(side["seconds"] > 0 for side in contest["sides"].values())


def test_sections_have_the_figures_and_say_that_there_was_no_gpu(results: Path, tmp_path: Path) -> None:
    made = attention_section.render(read_record(results / "gpu_attention.json"))
    page = "\n".join(made.blocks)
    first = contests_of(results, "gpu_attention")[0]
    assert "without a GPU" in page
    assert (
        f"| {first['size']} | {first['floor_seconds'] * 1e6:.1f} | {first['sides']['fused']['seconds'] * 1e6:.1f}"
        in page
    )
    made.pictures[0].draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert "`sample`:" in "\n".join(ops_section.render(read_record(results / "gpu_ops.json")).blocks)


def test_section_of_a_gpu_names_it_its_goals_and_what_failed(results: Path, tmp_path: Path) -> None:
    record = json.loads((results / "gpu_ops.json").read_text())
    record["gpu"] = {
        "name": "NVIDIA Made-up",
        "capability": "9.0",
        "memory": 80 * 2**30,
        "processors": 132,
        "second_level_cache": 50 * 2**20,
        "cuda": "13.0",
        "driver_version": "580.1",
        "clocks.max.sm": "1980",
        "power.limit": "700.00",
    }
    contest = next(each for each in record["contests"] if each["op"] == "rms_norm")
    contest["goal"] = {"kind": "share", "value": 0.85}
    contest["sides"]["fused"] |= {"seconds": 1e-4, "share": 0.9}
    contest["not_available"] = {"torch.compile": "RuntimeError: no compiler"}
    record["problems"] = ["sample, greedy: fused gives 2 tensors instead of 1"]
    record["not_measured"] = ["step_inputs, 1 rows: the time was up"]
    path = tmp_path / "gpu_ops.json"
    path.write_text(json.dumps(record))
    made = ops_section.render(read_record(path))
    page = " ".join("\n".join(made.blocks).split())
    assert "without a GPU" not in page
    assert "NVIDIA Made-up, 80 GiB, driver 580.1, at most 1980 MHz, 700.00 W; CUDA 13.0, triton" in page
    assert "85%: met" in page
    assert "torch.compile did not run: RuntimeError: no compiler" in page
    assert "**Failed: sample, greedy: fused gives 2 tensors instead of 1**" in page
    assert "Not measured: step_inputs, 1 rows: the time was up." in page
    made.pictures[0].draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("goal", "seconds", "said"),
    [
        (Goal("share", 0.5), 1.0, "50%: **not met**"),
        (Goal("share", 0.5), 0.001, "50%: met"),
        (Goal("seconds", 0.2e-3), 0.1e-3, "200 us: met"),
        (Goal("operations_per_second", 450e12), 1.0, "450 TFLOP/s: **not met**"),
    ],
)
def test_goals_are_judged(goal: Goal, seconds: float, said: str, tmp_path: Path) -> None:
    value = {
        "goal": {"kind": goal.kind, "value": goal.value},
        "sides": {"fused": {"seconds": seconds, "share": 0.001 / seconds, "operations_per_second": 1e12 / seconds}},
    }
    (tmp_path / "contest.json").write_text(json.dumps(value))
    assert goal_text(read_record(tmp_path / "contest.json")) == said


def test_steps_run_on_a_bare_machine_and_all_sides_give_the_same_tokens(steps: Path) -> None:
    record = json.loads(steps.read_text())
    assert record["problems"] == record["not_measured"] == []
    assert (record["commit"], record["dirty"], record["gpu"]) == ("0123456789abcdef", False, None)
    assert [step["num_rows"] for step in record["contests"]] == [1, 3]
    for step in record["contests"]:
        assert step["sides"].keys() == {"eager", "plain"}


def test_section_of_steps(steps: Path, tmp_path: Path) -> None:
    """With what only a GPU gives made up."""
    record = json.loads(steps.read_text())
    step = record["contests"][0]
    step["sides"] = {name: {"seconds": 0.001 * (i + 1), "share": 0.8} for i, name in enumerate(SIDES)}
    step |= {"goal": 0.7, "invariant_cost": 0.05, "launches": {"per_step": 210, "per_layer": 6}}
    step["peers"] = {"transformers, continuous batching": {"seconds": 0.004}}
    path = tmp_path / "gpu_step.json"
    path.write_text(json.dumps(record))
    made = step_section.render(read_record(path))
    page = "\n".join(made.blocks)
    floor = f"{step['floor_seconds'] * 1e3:.3f}"
    assert f"| tiny, 1 rows | {floor} | 1.000 | 80% | 1000 | 2.000 | 3.000 | +5.0% | 70%: met |" in page
    assert "| tiny, 3 rows | " in page
    assert "| tiny, 1 rows | 210 | 6 |" in page
    assert "| tiny, 1 rows | transformers, continuous batching | 4.000 | 4.00x |" in page
    made.pictures[0].draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_report_has_a_section_for_each_result(results: Path, steps: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "results"))
    shutil.copy(steps, folder)
    report.main(["--results", str(folder), "--docs", str(tmp_path / "docs")])
    page = (tmp_path / "docs" / "performance.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Decoding steps on a GPU",
        "## Paged attention on a GPU",
        "## Kernels on a GPU",
    ]
    assert page.count("without a GPU") == 3
    report.main(["--check", "--results", str(folder), "--docs", str(tmp_path / "docs")])


def test_a_contest_is_gone_before_the_next_one_is_made() -> None:
    """Two caches of 34 GB at once do not fit, and the second one was then left out."""
    alive: list[weakref.ref[Side]] = []

    def contests() -> Iterator[Contest]:
        for _ in range(2):
            assert all(reference() is None for reference in alive)
            contest = _contest(reference=lambda: torch.ones(1))
            alive.append(weakref.ref(contest.sides["reference"]))
            yield contest
            del contest

    assert len(hold(contests(), FLOORS, CPU).contests) == 2


def test_all_of_it_ends_in_nine_minutes() -> None:
    assert sum(gpu_bench.BUDGETS.values()) + len(gpu_bench.BUDGETS) * gpu_bench.GRACE <= 9 * 60


def test_without_a_gpu_only_tiny_sizes_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no GPU here"):
        gpu_ops.main(["--device", "cpu", "--results", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_floor_of_a_model_is_what_its_parameters_take() -> None:
    """Llama-3.1-8B has 8.03 billion parameters, and a step reads all but the embedding: 15.01 GB."""
    num_bytes = weight_bytes_per_step(MODELS["Llama-3.1-8B"], num_rows=0)
    assert num_bytes / 2 + 128_256 * 4096 == 8_030_261_248
    assert round(num_bytes / 1e9, 2) == 15.01
    assert kv_bytes_per_token(MODELS["Qwen3-0.6B"]) == 112 * 1024
    spec = MODELS["Qwen3-0.6B"]
    num_parameters = sum(math.prod(parameter.shape) for parameter in list_parameters(spec))
    assert weight_bytes_per_step(spec, num_rows=0) == 2 * num_parameters


def _contest(**steps: Step) -> Contest:
    def side(step: Step) -> Side:
        return lambda: step

    return Contest("rms_norm", "2 x 3", 24, {name: side(step) for name, step in steps.items()}, torch.float32)


def test_wrong_side_is_a_problem_and_has_no_figure() -> None:
    wrong = _contest(reference=lambda: torch.ones(2, 3), fused=lambda: torch.full((2, 3), 1.1))
    held = hold([wrong], FLOORS, CPU)
    assert held.problems == ["rms_norm, 2 x 3: fused, result 0: off by 5.00e-02, and 2.00e-05 is allowed"]
    assert held.contests[0]["sides"].keys() == {"reference"}


def test_peer_that_fails_is_noted_and_one_of_ours_is_a_problem() -> None:
    def fail() -> torch.Tensor:
        raise RuntimeError("out of resources\nand a long story")

    held = hold([_contest(reference=lambda: torch.ones(1), fused=fail, peer=fail)], FLOORS, CPU)
    assert held.contests[0]["not_available"] == dict.fromkeys(("fused", "peer"), "RuntimeError: out of resources")
    assert held.problems == ["rms_norm, 2 x 3: fused: RuntimeError: out of resources"]


def test_what_comes_after_the_deadline_is_named() -> None:
    written: list[Held] = []
    contest = _contest(reference=lambda: torch.ones(1))
    held = hold([contest], FLOORS, CPU, deadline=time.monotonic() - 1, after_each=written.append)
    assert held.not_measured == ["rms_norm, 2 x 3: the time was up"]
    assert held.contests == [] and written == []


def test_check_tells_nan_infinity_and_whole_numbers() -> None:
    inf, nan = float("inf"), float("nan")
    check("", torch.tensor([1.0, -inf]), torch.tensor([1.0, -inf]), torch.float32)
    for got in ([1.0, inf], [nan, -inf], [1.0, 5.0]):
        with pytest.raises(WrongResult):
            check("", torch.tensor(got), torch.tensor([1.0, -inf]), torch.float32)
    with pytest.raises(WrongResult, match="1 of 2 values differ"):
        check("", torch.tensor([1, 2]), torch.tensor([1, 3]), torch.float32)
    with pytest.raises(WrongResult, match="float64"):
        check("", torch.ones(1).double(), torch.ones(1), torch.float32)


def test_floor_is_the_slower_of_bytes_and_operations() -> None:
    floors = Floors(copy_bandwidth=10.0, read_bandwidth=20.0, matmul_rate=100.0)
    contest = Contest("linear", "", 50, {}, torch.float32, num_operations=200)
    assert floors.seconds(contest) == 5.0
    contest = Contest("linear", "", 5, {}, torch.float32, num_operations=200)
    assert floors.seconds(contest) == 2.0
