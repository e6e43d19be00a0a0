"""Serving over HTTP against transformers' `generate`, side by side in one run on one machine.

The shape is the 135M Llama's with random weights, prompts of 128 tokens, answers of 64. Two sides stand ready, each in
its own processes with the same number of threads: `penstock serve` and a process that runs `generate` for one prompt
after the other. They are measured in alternation, one while the other sleeps: generate, HTTP, generate, HTTP, ... Each
ratio is of two neighbours. Whatever else the machine did meanwhile is recorded, for a busy machine makes bad figures.
"""

import argparse
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from http_load import LoadFigures, run_load
from machine import RESULTS, measure_bandwidth, write_result
from quiet import ForeignLoad, warn_unless_quiet
from shapes import SHAPES, LlamaShape, write_checkpoint
from sides.process import SideProcess
from sides.side import Terms

# What the project set itself: HTTP over generate alone, by concurrency.
GOALS = {1: 1.0, 16: 12.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Lengths in tokens."""

    shape: str
    prompt_length: int
    answer_length: int
    concurrencies: tuple[int, ...]
    rounds: int
    prompts_per_round: int
    threads: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One measurement of `generate` and the one of HTTP right after it. Rates in tokens/s, times in seconds."""

    round: int
    concurrency: int
    generate_rate: float
    http_rate: float
    time_to_first_token: float
    time_per_token: float
    foreign_load: float

    @property
    def ratio(self) -> float:
        return self.http_rate / self.generate_rate


class Peer:
    """transformers' `generate` in a process of its own, one prompt after the other."""

    def __init__(self, process: SideProcess, description: dict[str, Any], answer_length: int) -> None:
        self.description = description
        self._process = process
        self._answer_length = answer_length

    @classmethod
    def fastest(cls, folder: Path, settings: Settings, prompts: "Prompts") -> "Peer":
        """Warmed up, with the wait policy that serves it best here; the description holds the seconds of both."""
        length = settings.prompt_length + settings.answer_length
        terms = Terms("bfloat16", settings.threads, max_rows=1, max_length=length, cache_tokens=length)
        peers = []
        for wait_policy in ("default", "passive"):
            process = SideProcess("generate", wait_policy)
            peers.append(cls(process, process.load(folder, terms), settings.answer_length))
        seconds = []
        for peer in peers:
            peer.generate(prompts.take(1))
            seconds.append(statistics.median(peer.generate(prompts.take(3))))
        best = peers.pop(seconds.index(min(seconds)))
        for slower in peers:
            slower.close()
        best.description["seconds_by_wait_policy"] = dict(zip(("default", "passive"), seconds, strict=True))
        return best

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[float]:
        """The seconds that each prompt took."""
        return [self._process.answer([prompt], [self._answer_length]).seconds for prompt in prompts]

    def close(self) -> None:
        self._process.close()


class Server:
    """A `penstock serve` of its own."""

    def __init__(self, folder: Path, settings: Settings, extra: Sequence[str]) -> None:
        command = [str(Path(sys.executable).with_name("penstock")), "serve", str(folder), "--port", "0"]
        command += ["--threads", str(settings.threads), *extra]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        output = self.process.stdout
        for line in output:
            print(line, end="")
            if listening := re.search(r"Listening on (http://\S+)", line):
                self.url = listening[1]
                # A pipe that nobody reads fills up and stops the server.
                threading.Thread(target=output.read, daemon=True).start()
                return
        raise SystemExit(f"the server ended with status {self.process.wait()} before it listened")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class Prompts:
    """Random prompts, no two alike, so that no cache of prompts helps."""

    def __init__(self, settings: Settings) -> None:
        self._random = random.Random(0)
        self._length = settings.prompt_length
        self._vocab_size = SHAPES[settings.shape].vocab_size

    def take(self, num_prompts: int) -> list[list[int]]:
        return [[self._random.randrange(1, self._vocab_size) for _ in range(self._length)] for _ in range(num_prompts)]


def measure(server: Server, peer: Peer, model: str, settings: Settings, prompts: Prompts) -> list[Pair]:
    """Warm the server up, then measure both sides in alternation."""
    for concurrency in settings.concurrencies:
        run_load(server.url, model, prompts.take(2 * concurrency), settings.answer_length, concurrency)
    foreign = ForeignLoad()
    pairs = []
    print("round  concurrency  generate tok/s  HTTP tok/s   ratio  first token ms  per token ms  foreign load")
    for number in range(settings.rounds):
        for concurrency in settings.concurrencies:
            foreign.since_last()
            seconds = peer.generate(prompts.take(settings.prompts_per_round))
            num_requests = max(settings.prompts_per_round, 2 * concurrency)
            load = run_load(server.url, model, prompts.take(num_requests), settings.answer_length, concurrency)
            pair = _pair(number, concurrency, seconds, load, settings, foreign.since_last())
            pairs.append(pair)
            print(
                f"{number:5}  {concurrency:11}  {pair.generate_rate:14.1f}  {pair.http_rate:10.1f}  {pair.ratio:6.2f}"
                f"  {1e3 * pair.time_to_first_token:14.1f}  {1e3 * pair.time_per_token:12.2f}"
                f"  {pair.foreign_load:12.2f}",
                flush=True,
            )
    return pairs


def _pair(
    number: int, concurrency: int, seconds: Sequence[float], load: LoadFigures, settings: Settings, foreign: float
) -> Pair:
    return Pair(
        round=number,
        concurrency=concurrency,
        generate_rate=settings.answer_length * len(seconds) / sum(seconds),
        http_rate=load.tokens_per_second,
        time_to_first_token=statistics.median(answer.time_to_first_token for answer in load.answers),
        time_per_token=statistics.median(answer.time_per_token for answer in load.answers),
        foreign_load=foreign,
    )


def summarize(pairs: Sequence[Pair], settings: Settings, bandwidth: float) -> list[dict[str, Any]]:
    """Per concurrency: the ratios, the rates, and the share of the memory floor."""
    summary = []
    for concurrency in settings.concurrencies:
        ours = [pair for pair in pairs if pair.concurrency == concurrency]
        ratios = [pair.ratio for pair in ours]
        rate = statistics.median(pair.http_rate for pair in ours)
        floor = floor_rate(SHAPES[settings.shape], settings, concurrency, bandwidth)
        goal = GOALS.get(concurrency)
        summary.append(
            {
                "concurrency": concurrency,
                "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
                "goal": goal,
                "goal_met": None if goal is None else statistics.median(ratios) >= goal,
                "http_tokens_per_second": rate,
                "generate_tokens_per_second": statistics.median(pair.generate_rate for pair in ours),
                "time_to_first_token": statistics.median(pair.time_to_first_token for pair in ours),
                "time_per_token": statistics.median(pair.time_per_token for pair in ours),
                "floor_tokens_per_second": floor,
                "share_of_floor": rate / floor,
            }
        )
    return summary


def floor_rate(shape: LlamaShape, settings: Settings, concurrency: int, bandwidth: float) -> float:
    """Tokens/s if reading memory were all: per step every weight once, and each row's keys and values.

    Prompts are not counted, so the floor is a little too high to reach; weights that stay in the last-level cache
    from step to step can beat it.
    """
    mean_length = settings.prompt_length + settings.answer_length / 2
    step_bytes = shape.weight_bytes + concurrency * mean_length * shape.kv_bytes_per_token
    return concurrency * bandwidth / step_bytes


def _print_summary(summary: Sequence[dict[str, Any]]) -> None:
    print("\nconcurrency  ratio median (min to max)    goal  HTTP tok/s  memory floor tok/s  share of floor")
    for line in summary:
        ratio = line["ratio"]
        goal = "" if line["goal"] is None else f"{line['goal']:.0f}x"
        print(
            f"{line['concurrency']:11}  {ratio['median']:6.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            f"  {goal:>10}  {line['http_tokens_per_second']:10.1f}  {line['floor_tokens_per_second']:18.1f}"
            f"  {line['share_of_floor']:13.0%}"
        )


def _read_settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        shape=arguments.shape,
        prompt_length=128,
        answer_length=64,
        concurrencies=(1, 2, 4, 8, 16, 32) if arguments.all else (1, 16),
        rounds=arguments.rounds,
        prompts_per_round=arguments.prompts,
        threads=arguments.threads,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-135m")
    parser.add_argument("--all", action="store_true", help="concurrency 1, 2, 4, 8, 16 and 32 in place of 1 and 16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=4, help="prompts of each generate measurement")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    parser.add_argument("--name", default="serve_speed", help="name of the file in it: serve_speed, or serve_speed_...")
    parser.add_argument("serve_flags", nargs="*", help="after --: more flags for penstock serve")
    arguments = parser.parse_args()
    settings = _read_settings(arguments)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / settings.shape
        write_checkpoint(SHAPES[settings.shape], folder)
        bandwidth = measure_bandwidth(settings.threads)
        print(f"memory is read at {bandwidth / 1e9:.1f} GB/s by {settings.threads} threads")
        prompts = Prompts(settings)
        peer = Peer.fastest(folder, settings, prompts)
        print(f"generate runs with OpenMP's wait policy {peer.description['wait_policy']}, its faster one here")
        server = Server(folder, settings, arguments.serve_flags)
        try:
            pairs = measure(server, peer, settings.shape, settings, prompts)
        finally:
            server.close()
            peer.close()
    summary = summarize(pairs, settings, bandwidth)
    _print_summary(summary)
    foreign_load = statistics.median(pair.foreign_load for pair in pairs)
    is_quiet = warn_unless_quiet(foreign_load)
    path = write_result(
        arguments.name,
        {
            "settings": asdict(settings) | {"serve_flags": arguments.serve_flags},
            "peer": peer.description,
            "weight_bytes": SHAPES[settings.shape].weight_bytes,
            "read_bandwidth": bandwidth,
            "is_quiet": is_quiet,
            "summary": summary,
            "pairs": [asdict(pair) | {"ratio": pair.ratio} for pair in pairs],
        },
        arguments.results,
    )
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
