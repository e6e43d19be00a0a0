"""The sampler alone: from logits to tokens, without a model, beside transformers' processors and torch's multinomial.

For each vocabulary and number of rows, one step of

* each kind of decoding by itself: greedy; sampling with no chain, and with each part of the default chain; the default
  chain (temperature, top-k, top-p, min-p); best-k with log-probabilities as a beam search of that many rows draws them;
* a mixed batch, in which the rows take turns at all of these;
* transformers on the same logits: its warpers of the default chain one after the other, softmax, multinomial; and its
  top-p alone.

The logits are those of a model that is sure to a realistic degree: a normal distribution whose largest values are
raised, a new one at every step, since nothing else stays the same from step to step either. All sides are measured in
turn, round after round, each on its own copy; a figure is the median of its rounds, and a ratio is of medians. The
floor is what reading the logits once would take at the bandwidth that this run measured.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from machine import RESULTS, measure_bandwidth, write_result
from quiet import ForeignLoad, warn_unless_quiet
from torch import Tensor

from penstock_decoding.draws import BestTokens, RowDraw, SampledTokens
from penstock_decoding.params import Step, read_decoding
from penstock_decoding.processor import Row
from penstock_decoding.sample_row import SampleRow
from penstock_decoding.sampler import Sampler

VOCABULARIES = (32_000, 128_256, 151_936)
ROWS = (1, 16, 64, 256)
DEFAULT_CHAIN: dict[str, object] = {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02}
BEAM_CANDIDATES = 16

# Chain fields and draw of each kind.
KINDS: dict[str, tuple[Mapping[str, object], RowDraw]] = {
    "greedy": ({}, BestTokens()),
    "sample": ({}, SampledTokens((0,))),
    "temperature": ({"temperature": 0.8}, SampledTokens((0,))),
    "top_k": ({"top_k": 50}, SampledTokens((0,))),
    "top_p": ({"top_p": 0.95}, SampledTokens((0,))),
    "min_p": ({"min_p": 0.02}, SampledTokens((0,))),
    "top_k_top_p": ({"temperature": 0.8, "top_k": 50, "top_p": 0.95}, SampledTokens((0,))),
    "default_chain": (DEFAULT_CHAIN, SampledTokens((0,))),
    "beam": ({}, BestTokens(BEAM_CANDIDATES)),
}
MIXED = "mixed"
THEIRS = "transformers_default_chain"
THEIR_TOP_P = "transformers_top_p"

Side = Callable[[Tensor, int], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One size of a batch."""

    num_rows: int
    vocab_size: int

    @property
    def num_bytes(self) -> int:
        return 4 * self.num_rows * self.vocab_size

    def logits(self, number: int) -> Tensor:
        """Of round `number`: some tokens stand out, as those that fit do, and the rest is noise."""
        generator = torch.Generator().manual_seed(number)
        logits = torch.randn(self.num_rows, self.vocab_size, generator=generator) * 2
        fitting = torch.randint(self.vocab_size, (self.num_rows, 64), generator=generator)
        bonus = torch.linspace(10, 2, 64).expand(self.num_rows, -1)
        return logits.scatter_add_(-1, fitting, bonus)


def our_side(kinds: Sequence[str], case: Case) -> Side:
    """One step of the sampler; row i is of kind i modulo their number."""
    sampler = Sampler()
    steps: dict[str, tuple[Step, ...]] = {
        kind: read_decoding({**KINDS[kind][0], "seed": 1}, vocab_size=case.vocab_size).chain for kind in kinds
    }

    def step(logits: Tensor, number: int) -> object:
        rows = []
        for i in range(case.num_rows):
            kind = kinds[i % len(kinds)]
            row = Row(i, i, (1, 2, 3), (4,) * number, (0,), seed=i)
            rows.append(SampleRow(row, steps[kind], KINDS[kind][1]))
        return sampler.sample(logits, rows)

    return step


def their_side(processors: transformers.LogitsProcessorList, case: Case) -> Side:
    """What `generate` does with the logits of one step."""
    prefix = torch.ones(case.num_rows, 4, dtype=torch.int64)

    @torch.inference_mode()
    def step(logits: Tensor, number: int) -> object:
        scores = processors(prefix, logits)
        return torch.multinomial(torch.nn.functional.softmax(scores, dim=-1), num_samples=1).squeeze(1).tolist()

    return step


def all_sides(case: Case) -> dict[str, Side]:
    """Everything that is measured on one size."""
    sides = {kind: our_side([kind], case) for kind in KINDS}
    sides[MIXED] = our_side([*KINDS], case)
    warpers = transformers.LogitsProcessorList(
        [
            transformers.TemperatureLogitsWarper(0.8),
            transformers.TopKLogitsWarper(50),
            transformers.TopPLogitsWarper(0.95),
            transformers.MinPLogitsWarper(0.02),
        ]
    )
    sides[THEIRS] = their_side(warpers, case)
    top_p = transformers.LogitsProcessorList([transformers.TopPLogitsWarper(0.95)])
    sides[THEIR_TOP_P] = their_side(top_p, case)
    return sides


def measure(case: Case, num_rounds: int, kinds: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one round that does not count."""
    sides = {name: side for name, side in all_sides(case).items() if not kinds or name in kinds}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(num_rounds + 1):
        logits = case.logits(number)
        for name, side in sides.items():
            own = logits.clone()
            started = time.perf_counter()
            side(own, number)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def summarize(case: Case, seconds: Mapping[str, Sequence[float]], bandwidth: float) -> dict[str, Any]:
    """Medians, and the ratios that the design promises something about."""
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    figures: dict[str, Any] = {
        "num_rows": case.num_rows,
        "vocab_size": case.vocab_size,
        "floor_seconds": case.num_bytes / bandwidth,
        "median_seconds": medians,
    }
    own = [medians[kind] for kind in KINDS if kind in medians]
    if MIXED in medians and own:
        figures["mixed_over_slowest"] = medians[MIXED] / max(own)
    if THEIRS in medians and "default_chain" in medians:
        figures["transformers_over_default_chain"] = medians[THEIRS] / medians["default_chain"]
    if THEIR_TOP_P in medians and "top_p" in medians:
        figures["transformers_over_top_p"] = medians[THEIR_TOP_P] / medians["top_p"]
    return figures


def print_case(figures: Mapping[str, Any]) -> None:
    """One size, as lines."""
    print(f"\n{figures['num_rows']} rows x {figures['vocab_size']}; one reading takes {_ms(figures['floor_seconds'])}")
    for name, seconds in figures["median_seconds"].items():
        print(f"  {name:<28}{_ms(seconds)}  {seconds / figures['floor_seconds']:7.1f} readings")
    for name in ("mixed_over_slowest", "transformers_over_default_chain", "transformers_over_top_p"):
        if name in figures:
            print(f"  {name:<38}{figures[name]:6.2f}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:9.2f} ms"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kinds", nargs="+", default=(), help="only these; default: all")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    parser.add_argument("--name", default="sampler", help="name of the file in it")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    bandwidth = measure_bandwidth(given.threads)
    print(f"memory is read at {bandwidth / 1e9:.1f} GB/s by {given.threads} threads")
    load = ForeignLoad()
    cases = []
    for vocab_size in given.vocabularies:
        for num_rows in given.rows:
            case = Case(num_rows, vocab_size)
            cases.append(summarize(case, measure(case, given.rounds, given.kinds), bandwidth))
            print_case(cases[-1])
    foreign_load = load.since_last()
    figures = {
        "settings": {"rounds": given.rounds, "threads": given.threads, "kinds": list(given.kinds) or list(KINDS)},
        "read_bandwidth": bandwidth,
        "foreign_load": foreign_load,
        "is_quiet": warn_unless_quiet(foreign_load),
        "cases": cases,
    }
    print(f"\nwritten to {write_result(given.name, figures, given.results)}")


if __name__ == "__main__":
    main()
