"""The sampler's benchmark: small, it runs to its end and writes what it promises; both sides do the same work."""

import json
from pathlib import Path

import pytest
import sampler
import torch
from reports import sampler as section
from reports.record import read_record
from transformers import LogitsProcessorList, TopPLogitsWarper


def test_small_run_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sampler, "measure_bandwidth", lambda num_threads: 1e10)
    threads = torch.get_num_threads()
    arguments = "--vocabularies 640 --rows 1 18 --rounds 2 --threads 1 --results".split()
    try:
        sampler.main([*arguments, str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    written = json.loads((tmp_path / "sampler.json").read_text())
    sides = {*sampler.KINDS, sampler.MIXED, sampler.THEIRS, sampler.THEIR_TOP_P}
    assert [(case["num_rows"], case["vocab_size"]) for case in written["cases"]] == [(1, 640), (18, 640)]
    for case in written["cases"]:
        assert case["median_seconds"].keys() == sides
        assert min(case["median_seconds"].values()) > 0
        seconds = case["median_seconds"]
        assert case["mixed_over_slowest"] == seconds["mixed"] / max(seconds[kind] for kind in sampler.KINDS)
        assert case["transformers_over_top_p"] == seconds[sampler.THEIR_TOP_P] / seconds["top_p"]
    assert "18 rows x 640" in capsys.readouterr().out
    made = section.render(read_record(tmp_path / "sampler.json"))
    second = written["cases"][1]
    assert f"| 18 x 640 | {second['median_seconds']['greedy'] * 1e3:.2f} |" in "\n".join(made.blocks)
    assert f"| 18 x 640 | {second['mixed_over_slowest']:.2f} |" in "\n".join(made.blocks)
    made.pictures[0].draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_both_sides_draw_from_the_same_nucleus() -> None:
    """A comparison of speed would mean nothing if one side did less: no token is ever drawn from outside."""
    case = sampler.Case(32, 640)
    nucleus = TopPLogitsWarper(0.95)(None, case.logits(1)).isfinite()
    ours = sampler.our_side(["top_p"], case)(case.logits(1), 1)
    theirs = sampler.their_side(LogitsProcessorList([TopPLogitsWarper(0.95)]), case)(case.logits(1), 1)
    assert isinstance(ours, list) and isinstance(theirs, list)
    tokens = torch.tensor([[int(draws.tokens[0]), token] for draws, token in zip(ours, theirs, strict=True)])
    assert nucleus.gather(-1, tokens).all()
