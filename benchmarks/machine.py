"""Which machine, software and commit a figure belongs to, and where figures are written.

Run as a script it measures how fast this machine reads memory and prints bytes per second: the floor of anything
that has to read all weights once per step. Imports torch only for that.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import psutil
except ImportError:  # a GPU machine that has torch and little else
    psutil = None

RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).parent.parent
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
_PACKAGES = ("torch", "transformers", "numpy", "triton", "safetensors", "tokenizers")


def machine_facts() -> dict[str, Any]:
    """What a reader needs to judge a figure: processor, memory, software. Sizes in bytes."""
    described = _proc_cpuinfo()
    flags = described.get("flags", "").split()
    return {
        "processor": described.get("model name", platform.processor()),
        "architecture": platform.machine(),
        "cores": num_cores(),
        "threads": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "last_level_cache": _last_level_cache(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def gpu_facts() -> dict[str, Any] | None:
    """The GPU, its driver, clocks (MHz) and power (W), as far as they can be asked; None without one. Loads torch."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    asked = ("driver_version", "clocks.max.sm", "clocks.max.mem", "clocks.sm", "power.limit")
    answer = _output("nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits", "--id=0")
    values = [value.strip() for value in answer.split(",")] if answer else []
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "processors": properties.multi_processor_count,
        "second_level_cache": properties.L2_cache_size,
        "cuda": torch.version.cuda,
        **(dict(zip(asked, values, strict=True)) if len(values) == len(asked) else {}),
    }


def num_cores() -> int | None:
    """Cores, or threads where cores cannot be told."""
    return psutil.cpu_count(logical=False) if psutil else os.cpu_count()


def commit_facts(commit: str | None = None) -> dict[str, Any]:
    """The commit, and whether the working tree (results apart) differs from it.

    `commit`: of the source where it is a copy without its repository; its word is taken.
    """
    if commit is not None:
        return {"commit": commit, "dirty": False}
    changes = _git("status", "--porcelain", "--", ".", f":!{RESULTS.relative_to(_ROOT)}")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": changes is None or changes != ""}


def write_result(name: str, figures: dict[str, Any], folder: Path = RESULTS, *, commit: str | None = None) -> Path:
    """Write figures to `<folder>/<name>.json` with the machine, the commit and the time beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **commit_facts(commit),
        "machine": machine_facts(),
        **figures,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


def measure_bandwidth(num_threads: int) -> float:
    """Bytes per second read from memory by `num_threads` threads, in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--threads", str(num_threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _read_bandwidth(num_threads: int, num_bytes: int, repeats: int) -> float:
    """The best of `repeats` reads of a tensor that no cache holds, by a sum and by a dot product."""
    import torch

    torch.set_num_threads(num_threads)
    data = torch.ones(num_bytes // 4)
    first, second = data.chunk(2)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.sum(data)
        middle = time.perf_counter()
        torch.dot(first, second)
        best = min(best, middle - start, time.perf_counter() - middle)
    return num_bytes / best


def _proc_cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _last_level_cache() -> int | None:
    """Bytes of the largest cache that the first processor sees; weights smaller than it can beat the memory floor."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1] in units), default=None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    return _output("git", *arguments)


def _output(*command: str) -> str | None:
    """What a program prints; None if it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the read bandwidth of this machine's memory, in bytes/s.")
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--bytes", type=int, default=2 * 2**30)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(_read_bandwidth(arguments.threads, arguments.bytes, arguments.repeats))


if __name__ == "__main__":
    main()
