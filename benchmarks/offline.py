"""`LLM` in process against transformers, side by side in one run on one machine, without HTTP.

Four sides, each in a process of its own, on the same checkpoint, with the same prompts of token ids, the same lengths
of answers, the same number of threads, greedily: `LLM`; transformers' `generate`, one prompt at a time; `generate` on
padded batches; transformers' continuous batching. Two settings:

* latency: one prompt at a time. The time to the first token is that of a request for one token, from the call to its
  return; the time per token of an answer of n tokens is what it took beyond that, over n - 1.
* throughput: prompts of mixed lengths with answers of mixed lengths, all known at the start, and at most `--batch`
  computed together: tokens of answers per second. `generate` takes batches in the order of the prompts; a batch is
  padded to its longest prompt, and runs until its longest answer is complete.

Before that each side answers on a tiny checkpoint in float32, and all must give the same tokens. Each side is given the
way of OpenMP's waiting that serves it best here, found by trying, and the same room for keys and values. Sides are
measured in alternation while the others sleep; each ratio is of two goes in one round. Peak memory is of the process,
above what it held after its imports and the tiny checkpoint. The floor is what reading weights, keys and values once
per step would take at the bandwidth that this run measured.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from machine import RESULTS, measure_bandwidth, write_result
from quiet import warn_unless_quiet
from shapes import SHAPES, LlamaShape, read_shape, write_checkpoint
from sides.contest import (
    ALONE,
    CANDIDATES,
    Contender,
    Disagreement,
    Measurement,
    Task,
    check,
    choose,
    compare,
    latency_round,
    start,
    throughput_round,
)
from sides.process import SideFailed
from sides.side import Terms
from sides.summary import summarize_latency, summarize_memory, summarize_throughput
from sides.tables import print_entry, print_measurement, print_summary
from sides.work import Lengths, Mill, floor_rate

_DEMO = Path(__file__).parent.parent / "server" / "penstock_server" / "demo_model"
# transformers' pages; room for keys and values is given in whole ones.
_PAGE = 256
# Of the check, and of what is measured.
_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Lengths in tokens.

    `shortest`, `longest`: bounds of the lengths of prompts and of answers in the throughput setting.
    `prompts_alone`: how many of its prompts the side that takes one at a time is given, to end in time.
    """

    checkpoint: str
    threads: int
    rounds: int
    batch: int
    prompts: int
    prompts_alone: int
    shortest: int
    longest: int
    latency_prompts: int
    latency_prompt_length: int
    latency_answer_length: int

    @property
    def mix(self) -> Lengths:
        """The throughput setting's lengths: the same in every round and for every side."""
        return Lengths.mixed(self.prompts, self.shortest, self.longest)

    def single(self, answer_length: int) -> Lengths:
        """The latency setting's lengths."""
        return Lengths.equal(self.latency_prompts, self.latency_prompt_length, answer_length)

    @property
    def max_length(self) -> int:
        """Prompt and answer together, in either setting."""
        return max(2 * self.longest, self.latency_prompt_length + self.latency_answer_length)


def terms(settings: Settings, dtype: str, max_length: int) -> Terms:
    """Room for twice what a full batch needs at its longest: transformers keeps a part of it free as a margin."""
    pages = -(-max_length // _PAGE)
    return Terms(dtype, settings.threads, settings.batch, max_length, 2 * settings.batch * pages * _PAGE)


def enter(settings: Settings, is_quick: bool, contenders: list[Contender]) -> int:
    """Start the sides, add them to `contenders` and check them; returns how many tokens were the same for all."""
    shape = SHAPES["tiny"]
    with tempfile.TemporaryDirectory() as temporary:
        write_checkpoint(shape, Path(temporary))
        task, warm_up = (Task(Path(temporary), terms(settings, dtype, max_length=48)) for dtype in _DTYPES)
        for name, policies in CANDIDATES.items():
            contenders.append(start(name, policies[:1] if is_quick else policies, task))
        work = Mill(shape.vocab_size).fill(Lengths.mixed(6, 4, 24))
        for contender in contenders:
            check(contender, work, warm_up)
    return compare(contenders)


def make_ready(settings: Settings, folder: Path, contenders: Sequence[Contender]) -> None:
    """Load the checkpoint that is measured, each side with its best way of waiting."""
    mill = Mill(read_shape(folder).vocab_size, seed=1)
    task = Task(folder, terms(settings, "bfloat16", settings.max_length))
    for contender in contenders:
        count = 1 if contender.name == ALONE else settings.batch
        choose(contender, task, mill.fill(Lengths.equal(count, settings.shortest, min(16, settings.longest))))
        print_entry(contender)


def measure(
    settings: Settings, vocab_size: int, contenders: Sequence[Contender]
) -> tuple[list[Measurement], list[Measurement]]:
    """Measure latency and throughput, round after round."""
    mill = Mill(vocab_size)
    latency: list[Measurement] = []
    throughput: list[Measurement] = []
    for number in range(settings.rounds):
        first, whole = (mill.fill(settings.single(length)) for length in (1, settings.latency_answer_length))
        for measurement in latency_round(number, contenders, first, whole):
            latency.append(measurement)
            print_measurement("latency", measurement)
        for measurement in throughput_round(number, contenders, mill.fill(settings.mix), settings.prompts_alone):
            throughput.append(measurement)
            print_measurement("throughput", measurement)
    return latency, throughput


def summarize(
    settings: Settings,
    shape: LlamaShape,
    bandwidth: float,
    latency: Sequence[Measurement],
    throughput: Sequence[Measurement],
) -> dict[str, Any]:
    """Both settings, each beside its memory floor."""
    alone = settings.mix.first(settings.prompts_alone)
    floors = dict.fromkeys(CANDIDATES, floor_rate(shape, settings.mix, settings.batch, bandwidth))
    floors[ALONE] = floor_rate(shape, alone, 1, bandwidth)
    single = settings.single(settings.latency_answer_length)
    return {
        "latency": summarize_latency(latency, floor_rate(shape, single, 1, bandwidth), settings.latency_answer_length),
        "throughput": summarize_throughput(throughput, floors),
    }


def run(settings: Settings, folder: Path, is_quick: bool) -> dict[str, Any]:
    """The whole contest on the checkpoint in `folder`; what it returns is what is written."""
    shape = read_shape(folder)
    bandwidth = measure_bandwidth(settings.threads)
    print(f"memory is read at {bandwidth / 1e9:.1f} GB/s by {settings.threads} threads")
    contenders: list[Contender] = []
    try:
        num_checked = enter(settings, is_quick, contenders)
        print(f"all sides give the same {num_checked} tokens in float32")
        make_ready(settings, folder, contenders)
        latency, throughput = measure(settings, shape.vocab_size, contenders)
        memory = summarize_memory(contenders, shape.weight_bytes)
    finally:
        for contender in contenders:
            contender.close()
    summary = summarize(settings, shape, bandwidth, latency, throughput) | {"memory": memory}
    return {
        "settings": asdict(settings) | {"is_quick": is_quick},
        "num_parameters": shape.num_parameters,
        "weight_bytes": shape.weight_bytes,
        "kv_bytes_per_token": shape.kv_bytes_per_token,
        "read_bandwidth": bandwidth,
        "num_tokens_checked": num_checked,
        "foreign_load": statistics.median(m.foreign_load for m in (*latency, *throughput)),
        "sides": {c.name: c.description for c in contenders if c.reason is None},
        "not_available": {c.name: c.reason for c in contenders if c.reason is not None},
        "summary": summary,
        "measured": {
            "latency": [asdict(measurement) for measurement in latency],
            "throughput": [asdict(measurement) for measurement in throughput],
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checkpoint = parser.add_mutually_exclusive_group()
    checkpoint.add_argument("--shape", choices=SHAPES, default="llama-135m", help="random weights of this shape")
    checkpoint.add_argument("--demo", action="store_true", help="the demo model in place of a shape")
    parser.add_argument("--rounds", type=_count, default=3)
    parser.add_argument("--prompts", type=_count, default=32, help="prompts of a throughput measurement")
    parser.add_argument("--batch", type=_count, default=16, help="prompts computed together at most")
    parser.add_argument("--threads", type=_count, default=psutil.cpu_count(logical=False))
    parser.add_argument("--quick", action="store_true", help="do not try which way of waiting serves a side best")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    parser.add_argument("--name", default="offline", help="name of the file in it: offline, or offline_...")
    given = parser.parse_args(arguments)
    is_tiny = given.shape == "tiny" and not given.demo
    settings = Settings(
        checkpoint="demo" if given.demo else given.shape,
        threads=given.threads,
        rounds=given.rounds,
        batch=given.batch,
        prompts=given.prompts,
        prompts_alone=min(given.prompts, 3),
        shortest=4 if is_tiny else 32,
        longest=16 if is_tiny else 128,
        latency_prompts=2,
        latency_prompt_length=8 if is_tiny else 128,
        latency_answer_length=8 if is_tiny else 64,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = _DEMO
        if not given.demo:
            folder = Path(temporary)
            write_checkpoint(SHAPES[given.shape], folder)
        try:
            figures = run(settings, folder, given.quick)
        except (SideFailed, Disagreement) as error:
            raise SystemExit(f"offline.py: {error}") from error
    print_summary(figures["summary"])
    figures["is_quiet"] = warn_unless_quiet(figures["foreign_load"])
    path = write_result(given.name, figures, given.results)
    print(f"\nwritten to {path}")


def _count(text: str) -> int:
    """A whole number of at least 1, as argparse reads it."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


if __name__ == "__main__":
    main()
