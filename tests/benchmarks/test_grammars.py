"""The grammars' benchmark: small, it runs to its end, and its section tells what it wrote."""

import json
from pathlib import Path

import grammars
from reports import grammars as section
from reports.record import read_record


def test_small_run_is_written_and_told(tmp_path: Path) -> None:
    grammars.main(["--vocabularies", "2000", "--rounds", "1", "--results", str(tmp_path)])
    written = json.loads((tmp_path / "grammars.json").read_text())
    assert written["cases"].keys() == grammars.CASES.keys()
    ours = written["cases"]["regex"]["2000"]["llguidance"]
    assert min(ours.values()) > 0
    made = section.render(read_record(tmp_path / "grammars.json"))
    assert f"| regex | 2000 | llguidance | {ours['compile_ms']:.1f} | {ours['mean_us']:.1f} |" in "\n".join(made.blocks)
    made.pictures[0].draw(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
