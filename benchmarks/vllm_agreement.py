"""Our serving benchmark beside `vllm bench serve`: the same load on one server, in alternation, figure by figure.

Both are run as a user runs them. Each case is measured in pairs, first one and then the other side in turn first; what
is compared is each side's median over the rounds. Figures agree when they differ by less than 3 %. Arrivals of an open
loop come like a clock's tick on both sides: two draws of a Poisson process have different peaks.

vLLM is not installed here: its benchmark needs no GPU, so any environment in which `vllm bench serve --help` runs is
enough. It is given the demo model's tokenizer; both send text.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from load.errors import BenchmarkError
from load.own_server import serving, started
from machine import write_result

_HERE = Path(__file__).parent
TOKENIZER = _HERE.parent / "server" / "penstock_server" / "demo_model"
TOLERANCE = 0.03
INPUT_LEN = 64
# vLLM's name of a figure, and where ours is.
FIGURES = {
    "request_throughput": ("request_rate",),
    "output_throughput": ("output_rate",),
    "total_token_throughput": ("token_rate",),
    "max_output_tokens_per_s": ("peak_output_rate",),
    "max_concurrent_requests": ("peak_concurrency",),
} | {
    f"{part}_{name}_ms": (name, part)
    for name in ("ttft", "tpot", "itl", "e2el")
    for part in ("mean", "median", "p90", "p99")
}
_VLLM_PERCENTILES = ("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "90,99")


@dataclass(frozen=True, slots=True)
class Case:
    """One shape of load: a closed loop of `concurrency`, or an open loop of `rate` requests a second."""

    concurrency: int | None
    rate: float | None
    num_prompts: int
    output_len: int

    @property
    def label(self) -> str:
        return f"concurrency {self.concurrency}" if self.rate is None else f"{self.rate:g} requests/s"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One figure of one case: both medians, and ours over theirs."""

    case: str
    figure: str
    ours: float
    theirs: float
    ratio: float
    agrees: bool


def run_ours(url: str, model: str, case: Case, seed: int) -> dict[str, float]:
    """Our benchmark's figures under vLLM's names."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "ours.json"
        command = [sys.executable, str(_HERE / "serving.py"), "--url", url, "--model", model, "--warmup", "1"]
        command += ["--prompt-form", "text"]
        if case.rate is None:
            command += ["--concurrency", str(case.concurrency)]
        else:
            command += ["--rate", str(case.rate), "--burstiness", "inf"]
        command += ["--num-prompts", str(case.num_prompts), "--seed", str(seed), "--output", str(output)]
        command += ["--input-len", str(INPUT_LEN), "--output-len", str(case.output_len)]
        _run(command)
        figures = json.loads(output.read_text())["loads"][0]["figures"]
    return {name: _at(figures, path) for name, path in FIGURES.items()}


def run_theirs(vllm: str, url: str, model: str, case: Case, seed: int) -> dict[str, float]:
    """The figures of `vllm bench serve`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [vllm, "bench", "serve", "--backend", "openai", "--base-url", url, "--model", model]
        command += ["--tokenizer", str(TOKENIZER), "--dataset-name", "random", "--ignore-eos", "--disable-tqdm"]
        command += ["--random-input-len", str(INPUT_LEN), "--random-output-len", str(case.output_len)]
        command += ["--num-prompts", str(case.num_prompts), "--seed", str(seed), "--num-warmups", "1"]
        if case.rate is None:
            command += ["--max-concurrency", str(case.concurrency)]
        else:
            command += ["--request-rate", str(case.rate), "--burstiness", "inf"]
        command += [*_VLLM_PERCENTILES, "--save-result", "--result-dir", folder, "--result-filename", "theirs.json"]
        _run(command)
        figures = json.loads((Path(folder) / "theirs.json").read_text())
    return {name: float(figures[name]) for name in FIGURES}


def compare(case: Case, ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> list[Agreement]:
    """Medians over the rounds, figure by figure."""
    agreements = []
    for name in FIGURES:
        mine = statistics.median(figures[name] for figures in ours)
        yours = statistics.median(figures[name] for figures in theirs)
        ratio = mine / yours if yours else float("inf")
        agreements.append(Agreement(case.label, name, mine, yours, ratio, abs(ratio - 1) <= TOLERANCE))
    return agreements


def _at(figures: Mapping[str, Any], path: Sequence[str]) -> float:
    value: Any = figures
    for name in path:
        value = value[name]
    return float(value)


def _run(command: Sequence[str]) -> None:
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise BenchmarkError(f"{' '.join(command[:3])} failed:\n{(done.stdout + done.stderr)[-2000:]}")


@contextlib.contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The server's root and its model's name."""
    if arguments.url is not None:
        yield arguments.url.removesuffix("/v1"), arguments.model
    elif arguments.steady is not None:
        first_token, per_token = arguments.steady.split(":")
        script = str(_HERE / "load" / "steady_server.py")
        pace = (
            "--first-token",
            first_token,
            "--per-token",
            per_token,
            "--tokenizer",
            str(TOKENIZER / "tokenizer.json"),
        )
        with started([sys.executable, script, *pace]) as url:
            yield url, "steady"
    else:
        # One thread: two on a machine of two cores wait for each other whenever a client takes one of them.
        with serving("demo", ("--threads", "1")) as url:
            yield url, "demo"


def _print_table(agreements: Sequence[Agreement]) -> None:
    print(f"\n{'case':<16} {'figure':<26} {'ours':>10} {'vllm':>10} {'ratio':>7}")
    for line in agreements:
        mark = "" if line.agrees else "  more than 3 % apart"
        print(f"{line.case:<16} {line.figure:<26} {line.ours:10.2f} {line.theirs:10.2f} {line.ratio:7.3f}{mark}")
    num_agreeing = sum(line.agrees for line in agreements)
    print(f"\n{num_agreeing} of {len(agreements)} figures agree within {TOLERANCE:.0%}")


def _cases(arguments: argparse.Namespace) -> list[Case]:
    size = (arguments.num_prompts, arguments.output_len)
    closed = [Case(int(part), None, *size) for part in arguments.concurrency.split(",") if part]
    return closed + [Case(None, float(part), *size) for part in arguments.rate.split(",") if part]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", required=True, help="the vllm command")
    parser.add_argument("--url", help="a server that runs (default: the demo model is served)")
    parser.add_argument("--model", default="demo", help="with --url: its model, which has the demo model's tokenizer")
    parser.add_argument("--steady", metavar="FIRST:EACH", help="serve made-up tokens at this pace, in ms, like 50:5")
    parser.add_argument("--concurrency", default="1,8", help="closed loops (default: 1,8)")
    parser.add_argument("--rate", default="8", help="open loops (default: 8)")
    parser.add_argument("--num-prompts", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="vllm_agreement", help="name of the file in results")
    arguments = parser.parse_args()
    # As Ctrl-C does, so that the server that was started is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cases = _cases(arguments)
    ours: dict[str, list[dict[str, float]]] = {case.label: [] for case in cases}
    theirs: dict[str, list[dict[str, float]]] = {case.label: [] for case in cases}
    try:
        with _server(arguments) as (url, model):
            for number in range(arguments.rounds):
                for case in cases:
                    # Seeds differ by round: a repeated prompt would be found in the server's prefix cache.
                    for is_ours in (True, False) if number % 2 == 0 else (False, True):
                        if is_ours:
                            ours[case.label].append(run_ours(url, model, case, number))
                        else:
                            theirs[case.label].append(run_theirs(arguments.vllm, url, model, case, number))
                print(f"round {number + 1} of {arguments.rounds} done", flush=True)
    except BenchmarkError as error:
        print(f"vllm_agreement.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vllm_agreement.py: stopped; nothing is written", file=sys.stderr)
        return 130
    agreements = [line for case in cases for line in compare(case, ours[case.label], theirs[case.label])]
    _print_table(agreements)
    path = write_result(
        arguments.name,
        {
            "server": "steady " + arguments.steady if arguments.steady else model,
            "vllm": _version(arguments.vllm),
            "tolerance": TOLERANCE,
            "input_len": INPUT_LEN,
            "rounds": arguments.rounds,
            "cases": [asdict(case) for case in cases],
            "agreements": [asdict(line) for line in agreements],
            "rounds_ours": ours,
            "rounds_vllm": theirs,
        },
    )
    print(f"written to {path}")
    return 0


def _version(vllm: str) -> str:
    """Asked of the environment's Python: the command itself wants libraries for this that serving needs."""
    script = "from importlib.metadata import version; print(version('vllm'))"
    python = str(Path(vllm).with_name("python"))
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
