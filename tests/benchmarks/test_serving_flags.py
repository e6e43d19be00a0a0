"""The command line: what it means, and that what is wrong with it is said in one line that names the flag."""

import math
import re
from pathlib import Path

import pytest
from load.errors import FlagError
from load.flags import make_parser, read_flags
from load.loads import ClosedLoop, OpenLoop, Traced
from load.target import read_base

ROOT = Path(__file__).parents[2]


def test_defaults_measure_the_demo_model_in_a_closed_loop() -> None:
    settings = read_flags([])
    assert settings.server.base is None and settings.server.serve == "demo"
    assert settings.loads == (ClosedLoop(1), ClosedLoop(4), ClosedLoop(16))
    assert settings.ignore_eos and settings.fields == {} and settings.saves_result


def test_lists_are_sweeps() -> None:
    assert read_flags(["--concurrency", "2,8"]).loads == (ClosedLoop(2), ClosedLoop(8))
    flags = ["--rate", "1.5,inf", "--burstiness", "0.5", "--max-concurrency", "4"]
    assert read_flags(flags).loads == (OpenLoop(1.5, 0.5, 4), OpenLoop(math.inf, 0.5, 4))


def test_a_trace_with_speeds(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 0, "prompt_len": 3, "output_len": 1}\n' * 5)
    settings = read_flags(["--trace", str(path), "--speed", "1,2"])
    assert settings.loads == (Traced(1.0), Traced(2.0))
    assert settings.prompts.kind == "trace" and settings.num_requests == 5


def test_fields_are_json_or_text() -> None:
    chain = '{"strategy": "sample", "chain": [{"top_k": 3}]}'
    flags = ["--set", f"decoding={chain}", "--set", "seed=7", "--set", "stop=The", "--temperature", "0"]
    assert read_flags(flags).fields == {
        "decoding": {"strategy": "sample", "chain": [{"top_k": 3}]},
        "seed": 7,
        "stop": "The",
        "temperature": 0.0,
    }


def test_end_of_text_is_ignored_but_for_prompts_of_a_file(tmp_path: Path) -> None:
    assert not read_flags(["--prompt-file", str(tmp_path / "x.txt")]).ignore_eos
    assert read_flags(["--prompt-file", str(tmp_path / "x.txt"), "--ignore-eos"]).ignore_eos
    assert not read_flags(["--no-ignore-eos"]).ignore_eos


def test_the_key_comes_from_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "second")
    assert read_flags([]).server.api_key == "second"
    monkeypatch.setenv("PENSTOCK_API_KEY", "first")
    settings = read_flags([])
    assert settings.server.api_key == "first"
    assert "first" not in repr(settings)
    assert read_flags(["--api-key", "given"]).server.api_key == "given"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("--concurrency 0", "--concurrency: must be at least 1, not 0"),
        ("--concurrency 2,x", "--concurrency: must be a whole number, not 'x'"),
        ("--rate 0", "--rate: must be more than 0, not '0'"),
        ("--rate nan", "--rate: must be a number, not nan"),
        ("--goodput foo:2", "--goodput: must be ttft:MS or tpot:MS or e2el:MS, not 'foo:2'"),
        ("--goodput ttft", "--goodput: must be a number, not ''"),
        ("--set top_k", "--set: must be NAME=VALUE, not 'top_k'"),
        ("--set decoding={", "--set: decoding is no valid JSON: {"),
        ("--range-ratio 1", "--range-ratio: must be at least 0 and less than 1, not '1'"),
        ("--duration inf", "--duration: must be finite"),
        ("--processes 1000", "--processes: must be at most 64, not 1000"),
        ("--name ../x", "--name: must be letters, digits"),
        ("--endpoint responses", "--endpoint: invalid choice: 'responses'"),
        ("--bogus", "--bogus"),
    ],
)
def test_a_malformed_flag_is_one_line(flags: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        read_flags(flags.split())
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and problem in said


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("--url ftp://x", "--url: 'ftp://x' is not the URL of a server"),
        ("--url http://x:99999", "--url: 'http://x:99999' is not the URL"),
        ("--concurrency 1 --rate 2", "--rate: cannot be combined with --concurrency"),
        ("--rate 2 --trace {trace}", "--trace: cannot be combined with --rate"),
        ("--burstiness 2", "--burstiness: needs --rate"),
        ("--speed 2", "--speed: needs --trace"),
        ("--max-concurrency 2", "--max-concurrency: needs --rate or --trace"),
        ("--prompts file", "--prompts file: needs --prompt-file"),
        ("--prompts random --prompt-file x", "--prompt-file: needs --prompts file"),
        ("--trace {trace} --prompts random", "--prompts: cannot be combined with --trace"),
        ("--trace /nowhere", "--trace: /nowhere cannot be read: No such file"),
        ("--duration 2 --num-prompts 3", "--duration: cannot be combined with --num-prompts"),
        ("--duration 2 --rate inf", "--duration: cannot be combined with --rate inf"),
        ("--url localhost:1 --serve demo", "--serve: cannot be combined with --url"),
        ("--output x --no-result", "--output: cannot be combined with --no-result"),
        ("--output /nowhere/x.json", "--output: /nowhere/x.json cannot be written"),
        ("--output {folder}", "--output: {folder} cannot be written"),
        ("--plots {trace}", "--plots: {trace} is no folder"),
        ("--set model=x", "--set: model is not set this way"),
        ("--set temperature=1 --temperature 2", "--temperature: cannot be combined with --set temperature"),
    ],
)
def test_flags_that_contradict_each_other_are_named(flags: str, problem: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "prompt_len": 3, "output_len": 1}\n')
    with pytest.raises(FlagError) as raised:
        read_flags(flags.format(trace=trace, folder=tmp_path).split())
    assert str(raised.value).startswith(problem.format(trace=trace, folder=tmp_path))


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "h:1", "h:1/v1"])
def test_a_url_is_taken_with_and_without_its_ends(url: str) -> None:
    assert read_base(url) == "http://h:1"


def test_every_flag_is_on_the_page() -> None:
    """docs/benchmarks.md has a table row for each flag, and for no other."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    table = page[page.index("## Flags") :]
    table = table[: table.index("\n## ", 1)]
    shown = set(
        re.findall(r"`(--[a-z-]+)", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    flags = {option for action in make_parser()._actions for option in action.option_strings if option.startswith("--")}
    assert shown == flags - {"--help"}
