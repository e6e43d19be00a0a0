"""`benchmarks/beams.py`: a tiny run from end to end, and the section made of its result."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import beams
import pytest
import torch
from reports import beams as section
from reports.record import read_record


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The result of a run on the tiny shape."""
    folder = tmp_path_factory.mktemp("results")
    before = torch.get_num_threads()
    arguments = "--shape tiny --rounds 2 --widths 2,51 --prompt-length 20 --answer-length 6 --threads 1".split()
    with contextlib.redirect_stdout(io.StringIO()):
        beams.main([*arguments, "--results", str(folder)])
    torch.set_num_threads(before)
    yield folder / "beams.json"


@pytest.fixture(scope="module")
def figures(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_side_is_measured_at_every_width_it_takes(figures: Any) -> None:
    """Two rounds, the second in reverse; beyond its limit transformers is left out."""
    sides = [(m["round"], m["width"], m["side"]) for m in figures["measured"]]
    assert sides == [
        *((0, 2, side) for side in ("beam", "sample", "transformers")),
        *((0, 51, side) for side in ("beam", "sample")),
        *((1, 2, side) for side in ("transformers", "sample", "beam")),
        *((1, 51, side) for side in ("sample", "beam")),
    ]
    for measured in figures["measured"]:
        assert measured["step"] > 0
        if measured["side"] != "transformers":
            assert 0 < measured["forward"] < measured["step"]


def test_ratios_and_blocks_are_those_of_the_measurements(figures: Any) -> None:
    narrow, wide = figures["summary"]
    steps = {(m["round"], m["side"]): m["step"] for m in figures["measured"] if m["width"] == 2}
    ratios = [steps[number, "transformers"] / steps[number, "beam"] for number in (0, 1)]
    assert (narrow["ratio"]["min"], narrow["ratio"]["max"]) == pytest.approx((min(ratios), max(ratios)))
    assert wide["ratio"] is None and wide["transformers_ms"] is None
    # 20 + 6 - 1 tokens in blocks of 16: the prompt's full block is shared by samples, the second one is not.
    assert wide["separate_blocks"] == 2 * 51
    assert wide["sample_blocks"] == 1 + 51
    assert 2 <= wide["beam_blocks"] <= 1 + 51


def test_section_tells_the_figures(path: Path, figures: Any, tmp_path: Path) -> None:
    made = section.render(read_record(path))
    text = "\n".join(made.blocks)
    assert f"| 51 | {figures['summary'][1]['beam_blocks']} | 52 | 102 |" in text
    assert f"| 2 | {figures['summary'][0]['beam_ms']['median']:.1f} (" in text
    assert "python benchmarks/beams.py --shape tiny --rounds 2" in text
    made.pictures[0].draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--widths", "1,4"], ["--answer-length", "1"]])
def test_settings_that_measure_nothing_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        beams.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_sides_that_disagree_are_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another score from either side ends the run before it starts."""
    monkeypatch.setattr(beams.Theirs, "search", lambda self, prompt, width, length: (1.0, -1.0))
    with pytest.raises(SystemExit, match="best score"):
        beams.main(["--shape", "tiny", "--threads", "1", "--results", str(tmp_path)])
    assert not list(tmp_path.iterdir())
