"""Peak resident memory while a checkpoint is loaded, over the bytes of its weights.

A fresh process imports what loading needs, notes its resident memory, loads, and notes the peak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import write_result
from memory import peak_memory, reset_peak, resident_memory
from shapes import SHAPES, write_checkpoint

GOAL = 1.25


def _load(folder: Path) -> dict[str, Any]:
    """Load in this process and report it. Sizes in bytes."""
    import torch

    from penstock_kernels import select_kernels
    from penstock_models.loader import load_checkpoint

    device = torch.device("cpu")
    # Threads and the linear library's own memory come with the first product, whatever the model.
    torch.mm(torch.ones(64, 64, dtype=torch.bfloat16), torch.ones(64, 64, dtype=torch.bfloat16))
    baseline = resident_memory()
    reset_peak()
    start = time.perf_counter()
    model = load_checkpoint(folder, dtype="bfloat16", device=device, kernels=select_kernels("auto", device))
    seconds = time.perf_counter() - start
    return {
        "baseline": baseline,
        "peak": peak_memory(),
        "after": resident_memory(),
        "num_parameters": model.num_parameters,
        "seconds": seconds,
    }


def measure(folder: Path, weight_bytes: int) -> dict[str, Any]:
    """Load in a process of its own; ratios are over the bytes of the weights."""
    command = [sys.executable, __file__, "--load", str(folder)]
    figures: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    for name in ("peak", "after"):
        figures[f"{name}_ratio"] = (figures[name] - figures["baseline"]) / weight_bytes
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-360m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load is not None:
        print(json.dumps(_load(arguments.load)))
        return

    shape = SHAPES[arguments.shape]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / arguments.shape
        write_checkpoint(shape, folder)
        runs = [measure(folder, shape.weight_bytes) for _ in range(arguments.repeats)]
    print(f"{arguments.shape}: {shape.weight_bytes / 1e6:.0f} MB of weights; goal: peak at most {GOAL}x of that")
    for run in runs:
        print(f"peak {run['peak_ratio']:.3f}x, after {run['after_ratio']:.3f}x, in {run['seconds']:.2f} s")
    worst = max(run["peak_ratio"] for run in runs)
    path = write_result(
        "loading",
        {
            "shape": arguments.shape,
            "weight_bytes": shape.weight_bytes,
            "goal": GOAL,
            "worst_peak_ratio": worst,
            "goal_met": worst <= GOAL,
            "runs": runs,
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
