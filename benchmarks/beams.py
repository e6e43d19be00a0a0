"""Beam search in the engine against transformers' `generate(num_beams=...)`: one run, one process, one checkpoint.

For each width the same prompt of token ids and the same length, no end token, bf16, the same number of threads, in
alternation. The time per step of an answer of n tokens is what it takes beyond the one that gives the first token, over
n - 1. Ours is told apart: the model's forward pass, and all the rest, which is sampling, the search and the scheduler.

Beside the time stands the room: the most blocks of keys and values that the search held at once, the most that as many
samples of one request held, which share the prompt, and what as many requests of their own would hold.

Before that both sides search on a tiny checkpoint in float32, and the scores of their best answers must agree.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from machine import RESULTS, write_result
from quiet import ForeignLoad, warn_unless_quiet
from shapes import SHAPES, read_shape, write_checkpoint
from transformers import AutoModelForCausalLM, GenerationConfig

from penstock_decoding.params import read_decoding
from penstock_engine.batch import Batch
from penstock_engine.engine import Engine, Failure
from penstock_engine.group import Group
from penstock_engine.limits import Limits, most_blocks
from penstock_engine.model_runner import ModelRunner
from penstock_engine.reading import PartRead
from penstock_engine.request import GenerationRequest, StopConditions
from penstock_kernels import select_kernels
from penstock_models.loader import load_checkpoint

_DEMO = Path(__file__).parent.parent / "server" / "penstock_server" / "demo_model"
BLOCK_SIZE = 16
# Scores of the two sides may differ by this, relative to their size: they add in different orders.
_TOLERANCE = 1e-4
# Wider than this transformers is not measured: a step takes it seconds.
WIDEST_OF_THEIRS = 50


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured. Lengths in tokens."""

    checkpoint: str
    threads: int
    rounds: int
    prompt_length: int
    answer_length: int
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One search of one side. Seconds per step after the first token; `forward`: of the model alone."""

    round: int
    side: str
    width: int
    step: float
    forward: float | None = None
    blocks: int | None = None


class TimedRunner:
    """A runner that counts the seconds of the model."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self.seconds = 0.0

    def forward(self, batch: Batch) -> torch.Tensor:
        started = time.perf_counter()
        logits = self._runner.forward(batch)
        self.seconds += time.perf_counter() - started
        return logits

    def forward_and_read(self, batch: Batch) -> tuple[torch.Tensor, dict[Group, PartRead]]:
        return self._runner.forward_and_read(batch)


class Ours:
    """The engine with room for the widest search."""

    def __init__(self, folder: Path, dtype: str, settings: Settings) -> None:
        device = torch.device("cpu")
        kernels = select_kernels("auto", device)
        model = load_checkpoint(
            folder, dtype="float32" if dtype == "float32" else "bfloat16", device=device, kernels=kernels
        )
        widest, length = max(settings.widths), settings.prompt_length + settings.answer_length
        num_blocks = most_blocks(settings.prompt_length, settings.answer_length, widest, BLOCK_SIZE)
        limits = Limits(
            max_model_len=length,
            max_rows=widest,
            max_batch_tokens=max(512, widest),
            max_queue=1,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            vocab_size=model.spec.vocab_size,
        )
        self._runner = TimedRunner(ModelRunner(model.decoder, num_blocks=num_blocks, block_size=BLOCK_SIZE))
        # Without the cache of earlier prompts each search computes its own.
        self._engine = Engine(self._runner, limits, prefix_caching=False)
        self._vocab_size = model.spec.vocab_size

    def search(self, prompt: Sequence[int], width: int, length: int) -> tuple[float, float, int, float]:
        """Seconds per step in all and in the model, most blocks held, and the best answer's score."""
        return self._run(prompt, {"decoding": {"strategy": "beam", "width": width}}, width, length)

    def sample(self, prompt: Sequence[int], width: int, length: int) -> tuple[float, float, int, float]:
        """The same of as many samples."""
        return self._run(prompt, {"n": width, "seed": 1}, width, length)

    def _run(
        self, prompt: Sequence[int], fields: dict[str, object], width: int, length: int
    ) -> tuple[float, float, int, float]:
        decoding = read_decoding(fields, vocab_size=self._vocab_size, max_choices=width)
        self._engine.add(GenerationRequest("search", tuple(prompt), decoding, StopConditions(length, (), 0)))
        blocks, score = 0, float("nan")
        steps: list[tuple[float, float]] = []
        while self._engine.has_work:
            self._runner.seconds = 0.0
            started = time.perf_counter()
            outputs = self._engine.step()
            steps.append((time.perf_counter() - started, self._runner.seconds))
            blocks = max(blocks, self._engine.stats.num_blocks_in_use)
            for _, output in outputs:
                assert not isinstance(output, Failure), output
                scores = [token.score for token in output.tokens if token.choice == 0 and token.score is not None]
                score = scores[-1] if scores else score
        decoding_steps = steps[-(length - 1) :]
        seconds, forward = (sum(part) / len(decoding_steps) for part in zip(*decoding_steps, strict=True))
        return seconds, forward, blocks, score


class Theirs:
    """transformers' `generate`."""

    def __init__(self, folder: Path, dtype: str) -> None:
        transformers.utils.logging.disable_progress_bar()
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        # The checkpoint's own settings, an end token among them, would come in from here.
        self._model.generation_config = GenerationConfig(pad_token_id=0)

    def search(self, prompt: Sequence[int], width: int, length: int) -> tuple[float, float]:
        """Seconds per step, and the best answer's score."""
        first, _ = self._generate(prompt, width, 1)
        whole, score = self._generate(prompt, width, length)
        return (whole - first) / (length - 1), score

    def _generate(self, prompt: Sequence[int], width: int, length: int) -> tuple[float, float]:
        ids = torch.tensor([list(prompt)])
        settings = GenerationConfig(
            num_beams=width,
            max_new_tokens=length,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        started = time.perf_counter()
        output = self._model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return time.perf_counter() - started, float(output.sequences_scores[0])


def check(settings: Settings) -> list[int]:
    """Both sides on a tiny checkpoint in float32. Returns the widths at which their best scores agreed.

    Raises:
        SystemExit: they do not.
    """
    tiny = Settings("tiny", settings.threads, 1, 8, 12, (4, 8))
    with tempfile.TemporaryDirectory() as temporary:
        write_checkpoint(SHAPES["tiny"], Path(temporary))
        ours, theirs = Ours(Path(temporary), "float32", tiny), Theirs(Path(temporary), "float32")
        for width in tiny.widths:
            prompt = _prompt(tiny.prompt_length, SHAPES["tiny"].vocab_size, width)
            score, expected = ours.search(prompt, width, 12)[-1], theirs.search(prompt, width, 12)[-1]
            if abs(score - expected) > _TOLERANCE * abs(expected):
                raise SystemExit(f"beams.py: at width {width} our best score is {score}, transformers' {expected}")
    return list(tiny.widths)


def measure(settings: Settings, folder: Path) -> tuple[list[Measurement], float]:
    """All widths and sides, round after round, and how busy others kept the machine."""
    vocab_size = read_shape(folder).vocab_size
    ours, theirs = Ours(folder, "bfloat16", settings), Theirs(folder, "bfloat16")
    measured: list[Measurement] = []
    loads = []

    def go(number: int, side: str, width: int) -> None:
        prompt, length = _prompt(settings.prompt_length, vocab_size, number), settings.answer_length
        load = ForeignLoad()
        if side == "transformers":
            measurement = Measurement(number, side, width, theirs.search(prompt, width, length)[0])
        else:
            run = ours.search if side == "beam" else ours.sample
            measurement = Measurement(number, side, width, *run(prompt, width, length)[:3])
        loads.append(load.since_last())
        measured.append(measurement)
        print(f"round {number}, width {width:4d}, {side:12s} {1e3 * measurement.step:9.1f} ms per step", flush=True)

    for side in ("beam", "transformers"):  # whatever is set up once is set up now
        go(-1, side, min(settings.widths))
    measured.clear()
    for number in range(settings.rounds):
        for width in settings.widths:
            sides = ["beam", "sample"] + (["transformers"] if width <= WIDEST_OF_THEIRS else [])
            for side in sides if number % 2 == 0 else sides[::-1]:
                go(number, side, width)
    return measured, statistics.median(loads)


def summarize(settings: Settings, measured: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Per width: milliseconds and ratios, each as median, least and most of the rounds; and blocks."""
    summary = []
    for width in settings.widths:
        by_side = {
            side: [m for m in measured if (m.width, m.side) == (width, side)]
            for side in ("beam", "sample", "transformers")
        }
        beam, theirs = by_side["beam"], by_side["transformers"]
        pairs = zip(sorted(beam, key=_round), sorted(theirs, key=_round), strict=True) if theirs else ()
        ratios = [other.step / own.step for own, other in pairs]
        summary.append(
            {
                "width": width,
                "beam_ms": _spread([1e3 * m.step for m in beam]),
                "beam_forward_ms": _spread([1e3 * (m.forward or 0.0) for m in beam]),
                "sample_ms": _spread([1e3 * m.step for m in by_side["sample"]]),
                "transformers_ms": _spread([1e3 * m.step for m in theirs]),
                "ratio": _spread(ratios),
                "beam_blocks": max(m.blocks or 0 for m in beam),
                "sample_blocks": max(m.blocks or 0 for m in by_side["sample"]),
                "separate_blocks": width * -(-(settings.prompt_length + settings.answer_length - 1) // BLOCK_SIZE),
            }
        )
    return summary


def print_summary(summary: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'width':>5} {'ours ms':>9} {'of it model':>12} {'transformers ms':>16} {'times as fast':>14}", end="")
    print(f" {'blocks':>7} {'of samples':>11} {'of requests':>12}")
    for row in summary:
        theirs, ratio = (f"{row[name]['median']:.1f}" if row[name] else "-" for name in ("transformers_ms", "ratio"))
        print(
            f"{row['width']:5d} {row['beam_ms']['median']:9.1f} {row['beam_forward_ms']['median']:12.1f} {theirs:>16}"
            f" {ratio:>14} {row['beam_blocks']:7d} {row['sample_blocks']:11d} {row['separate_blocks']:12d}"
        )


def _prompt(length: int, vocab_size: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randint(1, vocab_size, (length,), generator=generator).tolist()


def _round(measurement: Measurement) -> int:
    return measurement.round


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checkpoint = parser.add_mutually_exclusive_group()
    checkpoint.add_argument("--shape", choices=SHAPES, default="llama-135m", help="random weights of this shape")
    checkpoint.add_argument("--demo", action="store_true", help="the demo model in place of a shape")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--widths", type=_widths, default=(4, 8, 50, 512), help="as in 4,8,50,512")
    parser.add_argument("--prompt-length", type=int, default=128)
    parser.add_argument("--answer-length", type=int, default=32, help="at least 2")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    parser.add_argument("--name", default="beams", help="name of the file in it: beams, or beams_...")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.prompt_length < 1 or given.answer_length < 2:
        parser.error("--rounds and --prompt-length must be at least 1, --answer-length at least 2")
    settings = Settings(
        checkpoint="demo" if given.demo else given.shape,
        threads=given.threads,
        rounds=given.rounds,
        prompt_length=given.prompt_length,
        answer_length=given.answer_length,
        widths=given.widths,
    )
    torch.set_num_threads(settings.threads)
    widths_checked = check(settings)
    with tempfile.TemporaryDirectory() as temporary:
        folder = _DEMO
        if not given.demo:
            folder = Path(temporary)
            write_checkpoint(SHAPES[given.shape], folder)
        measured, foreign_load = measure(settings, folder)
        num_parameters = read_shape(folder).num_parameters
    summary = summarize(settings, measured)
    print_summary(summary)
    figures = {
        "settings": asdict(settings),
        "num_parameters": num_parameters,
        "block_size": BLOCK_SIZE,
        "widths_checked": widths_checked,
        "foreign_load": foreign_load,
        "is_quiet": warn_unless_quiet(foreign_load),
        "summary": summary,
        "measured": [asdict(measurement) for measurement in measured],
    }
    print(f"\nwritten to {write_result(given.name, figures, given.results)}")


def _widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(part) for part in text.split(","))
    if min(widths) < 2:
        raise argparse.ArgumentTypeError("widths must be at least 2: transformers has no beam search of one")
    return widths


if __name__ == "__main__":
    main()
