"""The ways in which `gpu_step.py` decodes: an engine with its prompts computed, whose steps are then timed."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from penstock_decoding.params import read_decoding
from penstock_engine.engine import Engine, Failure
from penstock_engine.graph_runner import GraphRunner
from penstock_engine.limits import Limits
from penstock_engine.model_runner import ModelRunner
from penstock_engine.request import GenerationRequest, StopConditions
from penstock_engine.runner import Runner
from penstock_models.decoder import Decoder

BLOCK_SIZE = 16
MAX_BATCH_TOKENS = 8192
# Steps that are not counted: the first ones after a prompt send whole block tables and may still compile.
WARM_UP = 5
SAMPLING = {"temperature": 0.8, "top_p": 0.95}


@dataclass(frozen=True, slots=True)
class Load:
    """So many rows, each with a prompt of `context` tokens, then so many timed steps."""

    num_rows: int
    context: int
    num_steps: int

    @property
    def max_tokens(self) -> int:
        """Of each answer: it never ends while steps are timed, and one that is launched ahead is not its last."""
        return WARM_UP + self.num_steps + 4

    @property
    def length(self) -> int:
        return self.context + self.max_tokens


class StepSide:
    """One engine over a decoder. `kind`: "graph", "eager" (launched ahead, without graphs) or "plain" (neither)."""

    def __init__(self, decoder: Decoder, loads: list[Load], kind: str) -> None:
        max_rows = max(load.num_rows for load in loads)
        # A block more for each, which the scheduler wants to see free before it admits another.
        num_blocks = max(load.num_rows * (-(-load.length // BLOCK_SIZE) + 1) for load in loads)
        max_context = max(load.length for load in loads)
        self._vocab_size = decoder.spec.vocab_size
        runner: Runner
        if kind == "plain":
            runner = ModelRunner(decoder, num_blocks=num_blocks, block_size=BLOCK_SIZE)
        else:
            runner = GraphRunner(
                decoder,
                num_blocks=num_blocks,
                block_size=BLOCK_SIZE,
                max_rows=max_rows,
                max_context=max_context,
                cuda_graphs=kind == "graph",
            )
        limits = Limits(max_context, max_rows, MAX_BATCH_TOKENS, max_rows, num_blocks, BLOCK_SIZE, self._vocab_size)
        self.engine = Engine(runner, limits, prefix_caching=False)
        self._tokens: dict[str, list[int]] = {}

    @contextmanager
    def decoding(self, load: Load) -> Iterator[None]:
        """The load's prompts are computed, and each further step decodes a token of every row."""
        generator = np.random.default_rng(0)
        self._tokens = {}
        for i in range(load.num_rows):
            name = str(i)
            prompt = tuple(generator.integers(0, self._vocab_size, load.context).tolist())
            decoding = read_decoding({**SAMPLING, "seed": i}, vocab_size=self._vocab_size)
            self._tokens[name] = []
            self.engine.add(GenerationRequest(name, prompt, decoding, StopConditions(load.max_tokens)))
        while not all(self._tokens.values()):
            self.step()
        for _ in range(WARM_UP):
            self.step()
        try:
            yield
        finally:
            for name in self._tokens:
                self.engine.abort(name)
            while self.engine.has_work:
                self.engine.step()

    def step(self) -> None:
        """One step of the engine; the tokens are kept."""
        for name, output in self.engine.step():
            if isinstance(output, Failure):
                raise RuntimeError(f"row {name}: {output.message}")
            self._tokens[name] += [token.token_id for token in output.tokens]

    def seconds(self, load: Load) -> tuple[float, list[list[int]]]:
        """Seconds of a step by the host's clock, which waits for the tokens; and each row's first tokens."""
        with self.decoding(load):
            before = sum(map(len, self._tokens.values()))
            started = time.perf_counter()
            for _ in range(load.num_steps):
                self.step()
            elapsed = time.perf_counter() - started
            num_tokens = sum(map(len, self._tokens.values())) - before
            if num_tokens != load.num_steps * load.num_rows:
                raise RuntimeError(f"{num_tokens} tokens in {load.num_steps} steps of {load.num_rows} rows")
            # Rows whose prompts were computed first have some more.
            return elapsed / load.num_steps, [tokens[: WARM_UP + load.num_steps] for tokens in self._tokens.values()]

    def launches(self, load: Load, num_layers: int) -> dict[str, int]:
        """Kernels and copies that a step launches, and how many of them in each layer; by torch's profiler."""
        from torch.profiler import ProfilerActivity, profile

        num_steps = 4
        with self.decoding(load):
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA]) as profiled:
                for _ in range(num_steps):
                    self.step()
                torch.cuda.synchronize()
            counts = [event.count for event in profiled.key_averages() if event.device_type.name == "CUDA"]
        return {
            "per_step": round(sum(counts) / num_steps),
            "per_layer": sum(count // (num_steps * num_layers) for count in counts),
        }


def free() -> None:
    """Give back the memory of a side that nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
