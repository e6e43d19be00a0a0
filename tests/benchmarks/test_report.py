"""`benchmarks/report.py`: the page is what the results give, no more and no less, and stale files are named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import report
from machine import RESULTS, commit_facts, machine_facts
from PIL import Image
from reports.record import BadResult
from vllm_agreement import FIGURES, Case, compare


def test_committed_page_is_what_the_committed_results_give() -> None:
    report.main(["--check"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, one of each kind, and one of docs that were written from them.

    Two results are committed ones, three are made up as their benchmarks write them.
    """
    folder = tmp_path_factory.mktemp("written")
    results = folder / "results"
    results.mkdir()
    for name in ("loading", "serve_speed"):
        shutil.copy(RESULTS / f"{name}.json", results)
    _save(results / "offline.json", _head("offline") | _offline())
    _save(results / "serving.json", _head("serving") | _serving())
    _save(results / "vllm_agreement.json", _head("vllm_agreement") | _agreement())
    report.main(["--results", str(results), "--docs", str(folder / "docs")])
    return folder


@pytest.fixture
def results(written: Path, tmp_path: Path) -> Path:
    """The results, to be changed."""
    return Path(shutil.copytree(written / "results", tmp_path / "results"))


@pytest.fixture
def docs(written: Path, tmp_path: Path) -> Path:
    """What was written from the results as they were."""
    return Path(shutil.copytree(written / "docs", tmp_path / "docs"))


def page_of(results: Path) -> str:
    return report.build(report.read_results(results))[0]


def test_page_holds_every_kind_in_order(results: Path, docs: Path) -> None:
    page = (docs / "performance.md").read_text()
    assert page == page_of(results)
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Offline: LLM beside transformers",
        "## Serving over HTTP beside transformers' generate",
        "## Serving under load",
        "## The serving benchmark beside vllm bench serve",
        "## Memory while loading",
    ]
    assert page.count("](pictures/") == len(list((docs / "pictures").glob("*.png"))) == 6
    for line in page.splitlines():
        assert len(line) <= 120 or line.startswith(("|", "!", "`")) or "`" in line


def test_figures_on_the_page_are_those_of_the_results(results: Path) -> None:
    page = page_of(results)
    assert "| LLM | 300.0 (280.0 to 320.0) |  | 18% |" in page
    assert "| generate, batched | 150.0 (140.0 to 160.0) | 2.00x (1.90 to 2.10) | 9% |" in page
    assert (
        "| generate | 60.0 (50.0 to 70.0) | 1.50x (1.40 to 1.60) | 40.0 (38.0 to 42.0) | 1.60x (1.50 to 1.70) |" in page
    )
    assert "| concurrency 4 | 8 | 0 | 13.58 | 108.7 | 71.5, 115.2 | 29.7, 32.4 | 280.3, 301.6 |" in page
    assert "| `mean_ttft_ms` | 1.010 | **1.050** |" in page
    loading = json.loads((results / "loading.json").read_text())
    assert f"at worst {loading['worst_peak_ratio']:.3f}x" in page
    agreement = "--concurrency '1' --rate '2.5' --num-prompts 8 --output-len 8 --rounds 1`"
    assert f"`python benchmarks/vllm_agreement.py --vllm vllm {agreement}" in page
    assert "`python benchmarks/serving.py --concurrency 1,4 --input-len 16 --output-len 8 --num-prompts 8`" in page


def test_what_was_written_is_not_stale(results: Path, docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main(["--check", "--results", str(results), "--docs", str(docs)])
    assert capsys.readouterr().out == ""


def test_what_is_not_as_it_should_be_is_said(results: Path) -> None:
    """A busy machine, uncommitted changes, a goal that was missed, a side that could not run, failed requests."""
    _change(results / "loading.json", lambda value: value.update(goal_met=False, worst_peak_ratio=1.5))
    _change(results / "offline.json", lambda value: value.update(is_quiet=False, not_available={"other": "no kernels"}))
    _change(results / "serving.json", lambda value: value["loads"][0]["figures"].update(num_failed=3))
    _change(results / "serving.json", lambda value: value.update(client_is_limit=True, dirty=True, is_partial=True))
    _change(results / "serving.json", lambda value: value["loads"][1]["client"].update(is_limit=True))
    page = " ".join(page_of(results).split())
    assert "Goal: at most 1.25x at the peak; **not met**, at worst 1.500x." in page
    # Before the figures, not after them.
    assert "## Offline: LLM beside transformers **The machine was not quiet" in page
    assert page.count("on a quiet machine") == 1
    assert "Not available: other: no kernels." in page
    assert "**3 requests failed.**" in page
    assert "**The client was the limit at concurrency 4:" in page
    assert "**The run was stopped before its end.**" in page
    assert "with changes" in page


def test_stale_page_is_named(results: Path, docs: Path) -> None:
    page = docs / "performance.md"
    page.write_text(page.read_text().replace("300.0", "900.0"))
    with pytest.raises(SystemExit) as stopped:
        report.main(["--check", "--results", str(results), "--docs", str(docs)])
    assert stopped.value.code == f"{page} is not what {results} gives; run `make report`"


def test_picture_of_another_result_is_named(results: Path, docs: Path) -> None:
    """The digest tells, although the page has no figure that differs."""
    _change(results / "loading.json", lambda value: value["runs"][0].update(num_parameters=1))
    with pytest.raises(SystemExit) as stopped:
        report.main(["--check", "--results", str(results), "--docs", str(docs)])
    picture = docs / "pictures" / "loading.png"
    assert stopped.value.code == f"{picture} shows another result than {results} has; run `make report`"


def test_missing_and_left_over_pictures_are_named_and_mended(results: Path, docs: Path) -> None:
    pictures = docs / "pictures"
    Image.new("RGB", (2, 2)).save(pictures / "drawn_by_hand.png")
    (pictures / "no_picture.png").write_text("text")
    (pictures / "loading.png").write_text("text")
    (pictures / "offline.png").rename(pictures / "old.png")
    (docs / "performance.md").unlink()
    lines = list(report.stale(results, docs))
    assert [line.split(" ")[0] for line in lines] == [
        str(docs / "performance.md"),
        str(pictures / "offline.png"),
        str(pictures / "loading.png"),
        str(pictures / "old.png"),
    ]
    report.write(results, docs)
    assert list(report.stale(results, docs)) == []
    # A file that the report did not write is not its business.
    assert (pictures / "drawn_by_hand.png").exists() and (pictures / "no_picture.png").exists()
    assert not (pictures / "old.png").exists()


def test_result_that_cannot_be_drawn_leaves_everything_as_it_was(results: Path, docs: Path) -> None:
    before = {path: path.read_bytes() for path in docs.rglob("*.*")}
    _change(results / "serving.json", lambda value: value["loads"][1]["timeline"].pop("sent"))
    _change(results / "loading.json", lambda value: value.update(worst_peak_ratio=9.0))
    with pytest.raises(
        SystemExit, match=r"serving.json: serving_timeline.png cannot be drawn from it: KeyError: 'sent'"
    ):
        report.main(["--results", str(results), "--docs", str(docs)])
    assert {path: path.read_bytes() for path in docs.rglob("*.*")} == before


def test_results_of_one_kind_are_told_apart(results: Path) -> None:
    shutil.copy(results / "loading.json", results / "loading_small.json")
    _change(results / "loading_small.json", lambda value: value.update(benchmark="loading_small"))
    page, pictures = report.build(report.read_results(results))
    assert page.index("## Memory while loading\n") < page.index("## Memory while loading: loading_small\n")
    assert [drawn.picture.name for drawn in pictures[-2:]] == ["loading.png", "loading_small.png"]
    assert pictures[-1].digest != pictures[-2].digest


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("loading", lambda v: v.update(benchmark="loadings"), "benchmark 'loadings' has no section; known are offline"),
        ("loading", lambda v: v.pop("benchmark"), "benchmark is missing"),
        ("loading", lambda v: v.pop("runs"), "runs is missing"),
        ("loading", lambda v: v.update(runs=[]), "runs is not a list that is not empty"),
        ("loading", lambda v: v["runs"][1].pop("seconds"), "runs[1].seconds is missing"),
        ("loading", lambda v: v["runs"].append(3), "runs[3] is not an object"),
        ("loading", lambda v: v.update(weight_bytes="many"), "weight_bytes is not a finite number"),
        ("loading", lambda v: v.update(goal=float("nan")), "goal is not a finite number"),
        ("loading", lambda v: v.update(goal_met=1), "goal_met is not true or false"),
        ("loading", lambda v: v["machine"].update(cores=True), "machine.cores is not a whole number"),
        ("serve_speed", lambda v: v["summary"][0]["ratio"].pop("min"), "summary[0].ratio.min is missing"),
        ("offline", lambda v: v["settings"].update(checkpoint=None), "settings.checkpoint is not a text"),
        ("offline", lambda v: v["summary"].update(memory=[]), "summary.memory is not an object"),
        ("serving", lambda v: v["loads"][0]["load"].update(kind="Sum"), "loads[0].load.kind is not one of ClosedLoop"),
        ("vllm_agreement", lambda v: v["agreements"][0].update(ratio=float("inf")), "agreements[0].ratio is not"),
    ],
)
def test_bad_result_is_refused_by_file_and_field(
    results: Path, tmp_path: Path, name: str, change: Callable[[Any], object], message: str
) -> None:
    docs = tmp_path / "nothing"
    _change(results / f"{name}.json", change)
    for flags in ([], ["--check"]):
        with pytest.raises(SystemExit) as stopped:
            report.main([*flags, "--results", str(results), "--docs", str(docs)])
        assert str(stopped.value.code).startswith(f"report.py: {results / name}.json: {message}")
    assert not docs.exists()


@pytest.mark.parametrize(("content", "message"), [("{", "not JSON"), ("[]", "not a JSON object"), ("\xff", "not JSON")])
def test_file_that_holds_no_object_is_refused(results: Path, content: str, message: str) -> None:
    (results / "loading.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(BadResult, match=message):
        report.read_results(results)


def test_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadResult, match="holds no results"):
        report.read_results(tmp_path / "nothing")


def _save(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _change(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    _save(path, value)


def _head(name: str) -> dict[str, Any]:
    head = {"benchmark": name, "measured_at": "2026-01-02T03:04:05+00:00", **commit_facts(), "machine": machine_facts()}
    return head | {"dirty": False}


def _spread(median: float, least: float, most: float) -> dict[str, float]:
    return {"median": median, "min": least, "max": most}


def _offline() -> dict[str, Any]:
    sides = ("LLM", "generate", "generate, batched")
    settings = {"checkpoint": "llama-135m", "threads": 2, "rounds": 3, "batch": 16, "prompts": 32, "prompts_alone": 3}
    settings |= {"shortest": 32, "longest": 128, "latency_prompt_length": 128, "latency_answer_length": 64}
    throughput = {
        name: {"tokens_per_second": _spread(*rate), "floor_tokens_per_second": 1673.0, "share_of_floor": rate[0] / 1673}
        for name, rate in zip(sides, [(300, 280, 320), (22, 21, 23), (150, 140, 160)], strict=True)
    }
    throughput["LLM"]["ratio"] = None
    throughput["generate"]["ratio"] = _spread(13.0, 12.0, 14.0)
    throughput["generate, batched"]["ratio"] = _spread(2.0, 1.9, 2.1)
    ours = {"time_to_first_token": _spread(0.04, 0.03, 0.05), "time_per_token": _spread(0.025, 0.024, 0.026)}
    theirs = {"time_to_first_token": _spread(0.06, 0.05, 0.07), "time_per_token": _spread(0.04, 0.038, 0.042)}
    latency = {
        "LLM": ours | {"share_of_floor": 0.3, "first_token_ratio": None, "per_token_ratio": None},
        "generate": theirs
        | {
            "share_of_floor": 0.2,
            "first_token_ratio": _spread(1.5, 1.4, 1.6),
            "per_token_ratio": _spread(1.6, 1.5, 1.7),
        },
    }
    return {
        "settings": settings | {"is_quick": False},
        "num_parameters": 134515008,
        "weight_bytes": 269030016,
        "kv_bytes_per_token": 23040,
        "read_bandwidth": 3.4e10,
        "num_tokens_checked": 95,
        "is_quiet": True,
        "sides": {name: {"wait_policy": "default", "cache_tokens": 8192} for name in sides},
        "not_available": {},
        "summary": {
            "latency": {"floor_tokens_per_second": 125.0, "sides": latency},
            "throughput": {"sides": throughput},
            "memory": {name: {"baseline": 3e8, "peak": 7e8, "weights_above": 1.5} for name in sides},
        },
    }


def _serving() -> dict[str, Any]:
    """As `load.record` writes it, of two loads."""
    timeline = {"num_requests": 2, "arrived": [0.0, 0.1], "sent": [0.0, 0.1], "first_token": [0.1, None]}
    timeline |= {"finished": [0.3, 0.2], "failed": [False, True], "bucket_seconds": 0.15}
    timeline |= {"chunks_per_second": [10.0, 20.0], "under_way": [1, 2]}
    latencies = {"ttft": (71.5, 115.2), "tpot": (29.72, 32.38), "e2el": (280.3, 301.6)}
    figures: dict[str, Any] = {name: {"median": p, "p90": p, "p99": q} for name, (p, q) in latencies.items()}
    figures |= {"num_completed": 8, "num_failed": 0, "request_rate": 13.58, "good_rate": None, "output_rate": 108.7}
    loads = [
        {
            "load": {
                "kind": "ClosedLoop",
                "label": f"concurrency {count}",
                "axis": "requests at once",
                "amount": float(count),
                "slots": count,
            },
            "figures": figures,
            "client": {"is_limit": False, "limits": [], "processes": []},
            "timeline": timeline,
        }
        for count in (1, 4)
    ]
    settings = {"serves_itself": True, "model": "demo", "input_len": 16, "output_len": 8, "num_requests": 8}
    return {"settings": settings, "is_partial": False, "client_is_limit": False, "loads": loads}


def _agreement() -> dict[str, Any]:
    """Ours 1 % above vLLM's at a closed loop, 5 % at an open one."""
    theirs = dict.fromkeys(FIGURES, 100.0)
    near, far = Case(1, None, 8, 8), Case(None, 2.5, 8, 8)
    lines = compare(near, [dict.fromkeys(FIGURES, 101.0)], [theirs]) + compare(
        far, [dict.fromkeys(FIGURES, 105.0)], [theirs]
    )
    about = {"server": "demo", "vllm": "0.1", "tolerance": 0.03, "input_len": 64, "rounds": 1}
    return about | {"cases": [asdict(near), asdict(far)], "agreements": [asdict(line) for line in lines]}
