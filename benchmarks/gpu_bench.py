"""All GPU benchmarks, one process after another, in less than nine minutes on an H100.

    python benchmarks/gpu_bench.py             # attention, whole steps, ops: benchmarks/results/gpu_*.json
    python benchmarks/gpu_bench.py --quick     # only what goals are set for, two to three minutes

Needs torch, Triton and numpy; transformers takes part where it is installed. Each benchmark writes its result as it
grows and begins nothing new after its share of the time, so that a run that is cut short leaves what it had measured.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from machine import RESULTS

ROOT = Path(__file__).parent.parent
SOURCES = ("kernels", "models", "decoding", "engine", "benchmarks")
# Seconds after which each begins nothing new; what it is at by then may take half a minute more.
BUDGETS = {"gpu_attention": 140, "gpu_step": 180, "gpu_ops": 120}
# Seconds after which it is ended.
GRACE = 30


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only what goals are set for")
    parser.add_argument("--only", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", help="instead of full, or of what --quick stands for")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--commit", help="of the source, where it is a copy without its repository")
    given = parser.parse_args(arguments)
    scale = given.scale or ("quick" if given.quick else "full")
    failed = [name for name in given.only if _run(name, scale, given.device, given.results, given.commit) != 0]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see above")


def _run(name: str, scale: str, device: str, results: Path, commit: str | None) -> int:
    """Run one benchmark in a process of its own, since a fault on the device ends its process's use of it."""
    budget = BUDGETS[name]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--scale", scale, "--device", device]
    command += ["--seconds", str(budget), "--results", str(results)]
    command += ["--commit", commit] if commit else []
    paths = [str(ROOT / source) for source in SOURCES]
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    print(f"\n=== {name}, {budget} s ===", flush=True)
    started = time.monotonic()
    try:
        code = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, timeout=budget + GRACE, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        code = 1
        print(f"{name} was ended after {budget + GRACE} s; its result has what it had measured by then")
    print(f"=== {name}: {time.monotonic() - started:.0f} s ===", flush=True)
    return code


if __name__ == "__main__":
    main()
