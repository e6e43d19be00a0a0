"""Whole decoding steps with sampling: the engine decodes batches of random models, beside the floor and transformers.

    python benchmarks/gpu_step.py --seconds 170       # on a GPU: three models, 1 to 256 rows, as far as the time goes
    python benchmarks/gpu_step.py --scale tiny        # anywhere: to see that it runs and that all sides agree

Each row has a prompt of its own, computed beforehand, and draws with temperature and top-p. A step's time is that of
many steps one after another, by the host's clock, as the engine launches them: the fused kernels in CUDA graphs; the
same without graphs; and the batch-invariant ones in graphs. The floor is what the weights, keys and values that a step
has to read take at the bandwidth of a large copy, or its operations at the rate of a large product, both measured in
this run. With and without graphs the same tokens must come out. Exits with 1 if one of our sides failed or was wrong;
the figures are written all the same.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_run import add_flags, device_of, refuse_without_gpu
from kernels.contest import Scale
from kernels.floors import Floors, measure_floors
from kernels.inputs import model_dtype
from machine import gpu_facts, write_result
from model_shapes import MODELS, TINY, kv_bytes_per_token, operations_per_token, weight_bytes_per_step
from random_weights import random_decoder
from step_sides import SAMPLING, Load, StepSide, free

from penstock_kernels import Kernels
from penstock_models.spec import ModelSpec

CONTEXT = 1024
NUM_STEPS = 40
# Names of sides, with the table of kernels and the kind of engine of each, in the order in which they run.
SIDES: Mapping[str, tuple[str, str]] = {
    "graph": ("fused", "graph"),
    "eager": ("fused", "eager"),
    "invariant": ("fused_invariant", "graph"),
}
ON_A_CPU: Mapping[str, tuple[str, str]] = {"eager": ("reference", "eager"), "plain": ("reference", "plain")}
# Shares of the floor. By model and rows.
GOALS = {("Llama-3.2-1B", 1): 0.70, ("Llama-3.1-8B", 1): 0.82, ("Llama-3.1-8B", 256): 0.75}
# Of the sides beside "graph": what they cost shows there, and the prompts of the larger batches take long.
OTHER_ROWS = (1, 64)
# (model, rows, peer of `step_peers`), slow ones last; each only where transformers is installed.
PEERS = (
    ("Llama-3.2-1B", 64, "continuous batching"),
    ("Llama-3.1-8B", 64, "continuous batching"),
    ("Llama-3.2-1B", 1, "static cache, compiled"),
)


@dataclass(slots=True)
class Figures:
    """What has been measured so far."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Benchmark:
    """One run. Writes its result after each model's side."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._deadline = time.monotonic() + given.seconds
        self._device = device_of(given.device)
        self._scale: Scale = given.scale
        self._floors: Floors = measure_floors(self._device)
        self._context = given_context(given.scale)
        self._figures = Figures()

    def run(self) -> list[str]:
        """Measure all. Returns what failed."""
        for model, spec in models_of(self._scale).items():
            self._measure_model(model, spec)
            self._write()
        if self._device.type == "cuda" and self._scale == "full":
            self._measure_peers()
        path = self._write()
        print(f"\nwritten to {path}")
        for line in self._figures.not_measured:
            print(f"not measured: {line}")
        return self._figures.problems

    def _measure_model(self, model: str, spec: ModelSpec) -> None:
        loads = [Load(rows, self._context, num_steps(self._scale)) for rows in rows_of(self._scale)]
        records = {load.num_rows: self._record(model, spec, load) for load in loads}
        self._figures.steps += records.values()
        tokens: dict[int, list[list[int]]] = {}
        for side, (table, kind) in (SIDES if self._device.type == "cuda" else ON_A_CPU).items():
            place = f"{model}, {side}"
            if time.monotonic() > self._deadline:
                self._figures.not_measured.append(f"{place}: the time was up")
                continue
            own = [load for load in loads if side == "graph" or load.num_rows in OTHER_ROWS or self._scale == "tiny"]
            try:
                self._measure_side(side, table, kind, spec, own, records, tokens)
            except Exception as error:
                # What has been measured is worth more than a clean end; it is told, and the exit status is 1.
                self._figures.problems.append(f"{place}: {type(error).__name__}: {str(error)[:300]}")
            free()
            self._write()

    def _measure_side(
        self,
        name: str,
        table: str,
        kind: str,
        spec: ModelSpec,
        loads: list[Load],
        records: dict[int, dict[str, Any]],
        tokens: dict[int, list[list[int]]],
    ) -> None:
        kernels: Kernels = getattr(Kernels, table)()
        decoder = random_decoder(spec, model_dtype(self._device), self._device, kernels)
        started = time.monotonic()
        side = StepSide(decoder, loads, kind)
        ready = time.monotonic() - started
        for load in loads:
            record = records[load.num_rows]
            place = f"{record['size']}, {name}"
            if time.monotonic() > self._deadline:
                self._figures.not_measured.append(f"{place}: the time was up")
                continue
            seconds, given = side.seconds(load)
            share = record["floor_seconds"] / seconds
            record["sides"][name] = {"seconds": seconds, "share": share, "ready_seconds": ready}
            print(f"{place:<44}{seconds * 1e3:9.3f} ms  {share:6.1%} of the floor", flush=True)
            if name == "invariant" and "graph" in record["sides"]:
                record["invariant_cost"] = seconds / record["sides"]["graph"]["seconds"] - 1
            if table != "fused_invariant" and given != tokens.setdefault(load.num_rows, given):
                self._figures.problems.append(f"{place}: other tokens than the side before it")
            if name == "eager" and self._device.type == "cuda":
                record["launches"] = side.launches(load, spec.num_layers)

    def _record(self, model: str, spec: ModelSpec, load: Load) -> dict[str, Any]:
        size = model_dtype(self._device).itemsize
        # Keys in the middle of the timed steps.
        keys = load.num_rows * (load.context + load.max_tokens // 2)
        num_bytes = weight_bytes_per_step(spec, load.num_rows, size) + keys * kv_bytes_per_token(spec, size)
        operations = load.num_rows * operations_per_token(spec) + 4 * keys * spec.query_size * spec.num_layers
        floor = max(num_bytes / self._floors.copy_bandwidth, operations / self._floors.matmul_rate)
        return {
            "op": "step",
            "model": model,
            "size": f"{model}, {load.num_rows} rows",
            "num_rows": load.num_rows,
            "num_bytes": num_bytes,
            "num_operations": operations,
            "floor_seconds": floor,
            "goal": GOALS.get((model, load.num_rows)),
            "sides": {},
            "peers": {},
            "not_available": {},
        }

    def _measure_peers(self) -> None:
        try:
            import step_peers
        except ImportError as error:
            self._figures.not_measured.append(f"transformers: {error}")
            return
        for model, num_rows, peer in PEERS:
            record = next(step for step in self._figures.steps if step["size"] == f"{model}, {num_rows} rows")
            if time.monotonic() > self._deadline:
                self._figures.not_measured.append(f"{record['size']}, {peer}: the time was up")
                continue
            load = Load(num_rows, self._context, num_steps(self._scale))
            try:
                seconds = step_peers.PEERS[peer](MODELS[model], load, model_dtype(self._device), self._device)
                record["peers"][f"transformers, {peer}"] = {"seconds": seconds}
                print(f"{record['size']}, transformers, {peer}: {seconds * 1e3:.3f} ms", flush=True)
            except Exception as error:
                record["not_available"][f"transformers, {peer}"] = f"{type(error).__name__}: {str(error)[:200]}"
            free()
            self._write()

    def _write(self) -> object:
        given = self._given
        figures = {
            "settings": {
                "scale": self._scale,
                "seconds": given.seconds if given.seconds < float("inf") else None,
                "context": self._context,
                "sampling": SAMPLING,
            },
            "gpu": gpu_facts(),
            "floors": self._floors.as_json(),
            "contests": self._figures.steps,
            "not_measured": self._figures.not_measured,
            "problems": self._figures.problems,
        }
        return write_result("gpu_step", figures, given.results, commit=given.commit)


def models_of(scale: Scale) -> Mapping[str, ModelSpec]:
    match scale:
        case "full":
            return {name: MODELS[name] for name in ("Llama-3.2-1B", "Llama-3.1-8B", "Qwen3-0.6B")}  # goals first
        case "quick":
            return {"Llama-3.2-1B": MODELS["Llama-3.2-1B"]}
        case "tiny":
            return {"tiny": TINY}


def rows_of(scale: Scale) -> Sequence[int]:
    return {"full": (1, 8, 64, 256), "quick": (1, 64), "tiny": (1, 3)}[scale]


def num_steps(scale: Scale) -> int:
    return 3 if scale == "tiny" else NUM_STEPS


def given_context(scale: Scale) -> int:
    """Keys of each row when its steps begin to count, but for those of the warm-up."""
    return 20 if scale == "tiny" else CONTEXT


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    given = parser.parse_args(arguments)
    refuse_without_gpu(device_of(given.device), given.scale)
    if problems := Benchmark(given).run():
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
