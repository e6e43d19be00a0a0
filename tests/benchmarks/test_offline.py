"""`benchmarks/offline.py`: a tiny contest from end to end, and its parts on figures that are known."""

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import offline
import pytest
from reports import offline as section
from reports.record import read_record
from shapes import SHAPES, LlamaShape, read_shape, write_checkpoint
from sides import contest
from sides.contest import Contender, Disagreement, Measurement, Task, compare, start
from sides.process import SideFailed, SideProcess
from sides.side import Terms
from sides.summary import summarize_latency, summarize_throughput
from sides.work import Lengths, Mill, floor_rate
from sides.worker import SIDES, run

TERMS = Terms("float32", threads=1, max_rows=2, max_length=32, cache_tokens=256)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The result of a contest of all sides on the tiny shape, and what was printed."""
    folder = tmp_path_factory.mktemp("results")
    printed = io.StringIO()
    arguments = "--shape tiny --rounds 2 --prompts 5 --batch 2 --threads 1 --quick".split()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(offline, "measure_bandwidth", lambda num_threads: 1e10 * num_threads)
        offline.main([*arguments, "--results", str(folder)])
    yield folder / "offline.json", printed.getvalue()


@pytest.fixture(scope="module")
def record(outcome: tuple[Path, str]) -> Any:
    return json.loads(outcome[0].read_text())


def test_every_side_is_measured(record: Any) -> None:
    """transformers' continuous batching runs on a CPU too; nobody is left out."""
    assert record["not_available"] == {}
    assert list(record["sides"]) == list(contest.CANDIDATES) == list(SIDES)
    throughput, latency = record["measured"]["throughput"], record["measured"]["latency"]
    assert sorted((m["round"], m["side"]) for m in throughput) == sorted((n, s) for n in (0, 1) for s in SIDES)
    assert {m["side"] for m in latency} == set(SIDES) - {contest.BATCHED}
    assert [m["side"] for m in throughput[4:]] == [m["side"] for m in throughput[:4]][::-1]


def test_sides_are_given_the_same_work(record: Any) -> None:
    lengths = Lengths.mixed(5, 4, 16)
    for measured in record["measured"]["throughput"]:
        given = lengths.first(3) if measured["side"] == contest.ALONE else lengths
        assert measured["num_tokens"] == given.num_answer_tokens
    for measured in record["measured"]["latency"]:
        assert len(measured["seconds"]) == len(measured["first_token_seconds"]) == 2
    threads = {name: side["threads"] for name, side in record["sides"].items()}
    assert threads == dict.fromkeys(SIDES, 1)
    assert {side["num_parameters"] for side in record["sides"].values()} == {SHAPES["tiny"].num_parameters}


def test_ratios_and_shares_are_those_of_the_measurements(record: Any) -> None:
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    for measured in sorted(record["measured"]["throughput"], key=lambda m: m["round"]):
        rates[measured["side"]].append(measured["num_tokens"] / measured["seconds"][0])
    for name, side in record["summary"]["throughput"]["sides"].items():
        assert side["tokens_per_second"]["max"] == pytest.approx(max(rates[name]))
        assert side["share_of_floor"] == pytest.approx(
            side["tokens_per_second"]["median"] / side["floor_tokens_per_second"]
        )
        ratios = [ours / theirs for ours, theirs in zip(rates["LLM"], rates[name], strict=True)]
        if name == "LLM":
            assert side["ratio"] is None
        else:
            assert (side["ratio"]["min"], side["ratio"]["max"]) == pytest.approx((min(ratios), max(ratios)))


def test_memory_of_each_process_is_its_own(record: Any) -> None:
    memory = record["summary"]["memory"]
    assert list(memory) == list(SIDES)
    for side in memory.values():
        assert 50e6 < side["baseline"] < side["peak"] < 5e9
    # Ours loads no transformers.
    assert memory["LLM"]["baseline"] < memory["generate"]["baseline"]


def test_result_tells_the_checkpoint_and_the_terms(record: Any) -> None:
    assert record["benchmark"] == "offline"
    assert record["settings"]["checkpoint"] == "tiny"
    assert record["settings"]["rounds"] == 2
    assert record["read_bandwidth"] == 1e10
    assert record["num_tokens_checked"] == sum(Lengths.mixed(6, 4, 24).answers)
    assert isinstance(record["is_quiet"], bool)
    assert record["sides"]["LLM"]["wait_policy"] == "short spin"


def test_what_is_printed_holds_figures_and_ratios(outcome: tuple[Path, str], record: Any) -> None:
    path, printed = outcome
    side = record["summary"]["throughput"]["sides"]["generate, batched"]
    assert f"{side['tokens_per_second']['median']:.1f}" in printed
    assert f"{side['ratio']['median']:.2f}x ({side['ratio']['min']:.2f} to {side['ratio']['max']:.2f})" in printed
    assert str(path) in printed
    assert ("The machine was not quiet" in printed) != record["is_quiet"]


def test_result_becomes_a_section(outcome: tuple[Path, str], tmp_path: Path) -> None:
    rendered = section.render(read_record(outcome[0]))
    text = "\n".join(rendered.blocks)
    assert "--shape tiny --rounds 2 --prompts 5 --batch 2 --threads 1 --quick" in text
    assert all(f"| {name} |" in text for name in SIDES)
    for picture in rendered.pictures:
        picture.draw(tmp_path / picture.name)
        assert (tmp_path / picture.name).read_bytes().startswith(b"\x89PNG")


def test_side_that_cannot_run_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its process ends at once here; the reason is kept, as data. A side that has to run ends the contest."""
    task = Task(tmp_path, TERMS)
    work = Mill(SHAPES["tiny"].vocab_size).fill(Lengths.equal(1, 2, 2))
    with monkeypatch.context() as patch:
        patch.setattr(contest, "OPTIONAL", ("nobody",))
        contender = start("nobody", ["default", "passive"], task)
        contest.check(contender, work, task)
    assert not contender.is_present
    assert contender.reason == "nobody: its process ended with status 1"
    assert list(contest.latency_round(0, [contender], work, work)) == []
    contender = Contender("nobody", [SideProcess("nobody", "default")])
    with pytest.raises(SideFailed, match="its process ended"):
        contest.check(contender, work, task)
    assert not contender.is_present
    assert "KeyError: 'nobody'" in capfd.readouterr().err


def test_sides_that_disagree_are_not_measured() -> None:
    """The guard against comparing the speed of different computations."""
    ours, theirs = (Contender(name, [SideProcess(name, "default")]) for name in ("LLM", "generate"))
    try:
        ours.checked_answers, theirs.checked_answers = [[1, 2], [3, 4, 5]], [[1, 2], [3, 4, 6]]
        with pytest.raises(Disagreement, match="LLM and generate differ on prompt 1 at token 2: 5 and 6"):
            compare([ours, theirs])
        theirs.checked_answers = [[1, 2], [3, 4, 5]]
        assert compare([ours, theirs]) == 5
    finally:
        ours.close()
        theirs.close()


class _FailingSide:
    """Fails when it is asked to answer."""

    def load(self, folder: str, terms: Terms) -> dict[str, Any]:
        return {"folder": folder, "threads": terms.threads}

    def answer(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
        raise RuntimeError("out of breath")

    def unload(self) -> None:
        pass


def test_worker_answers_a_failure_and_goes_on() -> None:
    lines = [
        {"load": {"folder": "f", "terms": {name: getattr(TERMS, name) for name in Terms.__slots__}}},
        {"answer": {"prompts": [[1]], "lengths": [1]}},
        {"dance": {}},
        {"unload": {}},
    ]
    replies = io.StringIO()
    run(_FailingSide(), io.StringIO("".join(json.dumps(line) + "\n" for line in lines)), replies)
    assert [json.loads(line) for line in replies.getvalue().splitlines()] == [
        {"value": {"folder": "f", "threads": 1}},
        {"error": "RuntimeError: out of breath"},
        {"error": "ValueError: unknown command 'dance'"},
        {"value": None},
    ]


def test_floor_counts_weights_per_step_and_keys_per_token() -> None:
    """Two rows: 3 tokens take 2 steps; the keys are 4 + 5 of the first answer, and 6 of the second."""
    shape = LlamaShape(1, 2, 1, 1, 2, 2, 4)
    step, key = shape.weight_bytes, shape.kv_bytes_per_token
    lengths = Lengths([4, 6], [2, 1])
    assert floor_rate(shape, lengths, rows=2, bandwidth=1e6) == pytest.approx(3e6 / (2 * step + 15 * key))
    assert floor_rate(shape, lengths, rows=1, bandwidth=1e6) == pytest.approx(3e6 / (3 * step + 15 * key))
    # However many rows there are, an answer's tokens come one after the other.
    assert floor_rate(shape, lengths, rows=8, bandwidth=1e6) == pytest.approx(3e6 / (2 * step + 15 * key))


def test_latency_is_what_an_answer_takes_beyond_its_first_token() -> None:
    measured = [
        Measurement(0, "LLM", 10, [0.6, 1.0], [0.1, 0.3], 0.0),  # the first token: 0.2; then 4 tokens of 0.1 and 0.2
        Measurement(0, "generate", 10, [2.0, 2.0], [0.4, 0.4], 0.0),  # 4 tokens of 0.4
    ]
    sides = summarize_latency(measured, floor=100.0, answer_length=5)["sides"]
    assert sides["LLM"]["time_per_token"] == pytest.approx({"median": 0.15, "min": 0.1, "max": 0.2})
    assert sides["LLM"]["share_of_floor"] == pytest.approx(0.01 / 0.15)
    assert sides["LLM"]["per_token_ratio"] is None
    assert sides["generate"]["per_token_ratio"]["median"] == pytest.approx(0.4 / 0.15)
    assert sides["generate"]["first_token_ratio"]["median"] == pytest.approx(2.0)


def test_ratios_are_of_goes_in_one_round() -> None:
    """A machine twice as slow in the second round changes rates, and no ratio."""
    measured = [
        Measurement(0, "LLM", 10, [1.0], [], 0.0),
        Measurement(0, "generate", 5, [1.0], [], 0.0),
        Measurement(1, "generate", 5, [2.0], [], 0.0),
        Measurement(1, "LLM", 10, [2.0], [], 0.0),
    ]
    sides = summarize_throughput(measured, {"LLM": 20.0, "generate": 5.0})["sides"]
    assert sides["LLM"]["tokens_per_second"] == pytest.approx({"median": 7.5, "min": 5.0, "max": 10.0})
    assert sides["generate"]["ratio"] == pytest.approx({"median": 2.0, "min": 2.0, "max": 2.0})
    assert sides["generate"]["share_of_floor"] == pytest.approx(0.75)


def test_work_is_the_same_again_and_no_prompt_comes_twice() -> None:
    lengths = Lengths.mixed(64, 32, 128)
    assert lengths == Lengths.mixed(64, 32, 128)
    assert {min(lengths.prompts) >= 32, max(lengths.prompts) <= 128, len(set(lengths.answers)) > 8} == {True}
    mill = Mill(512)
    first, second = mill.fill(lengths), mill.fill(lengths)
    assert first == Mill(512).fill(lengths)
    assert [len(prompt) for prompt in first.prompts] == lengths.prompts
    assert not {tuple(prompt) for prompt in first.prompts} & {tuple(prompt) for prompt in second.prompts}


def test_shape_is_read_from_a_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(SHAPES["tiny"], tmp_path)
    assert read_shape(tmp_path) == SHAPES["tiny"]
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(ValueError, match="tied head"):
        read_shape(tmp_path)


@pytest.mark.parametrize("flag", ["--rounds", "--prompts", "--batch", "--threads"])
def test_counts_below_one_are_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        offline.main(["--shape", "tiny", flag, "0"])
    assert f"argument {flag}: must be at least 1, not 0" in capsys.readouterr().err
