"""`make gpu-check`: what can only be proven where an NVIDIA GPU is, in one run of minutes that leaves a record.

    python tests/gpu_check.py                                    # all of it
    python tests/gpu_check.py --only kernels bitwise sanitizer   # what needs only torch, triton, numpy and pytest

kernels    the tests of every op on the GPU, in bf16 too, against float64
bitwise    tests/gpu at real sizes: a row's bits alone and in batches, whole and in chunks, with and without CUDA graphs
suite      all other tests: the engine takes the GPU and its fused kernels by itself where there is one
sanitizer  compute-sanitizer's memcheck and racecheck over small cases of the ops

Each file of tests is a process of its own, several at a time: most of the time goes into compiling kernels. What could
not run is told as loudly as what failed: a part that has nothing to run, or no time left, makes the check fail.
"""

import argparse
import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
# A checkout that nobody installed will do.
SOURCES = ("kernels", "models", "decoding", "engine", "server", "chat", "demo", "tests", "benchmarks")
Part = Literal["kernels", "bitwise", "suite", "sanitizer"]
PARTS: tuple[Part, ...] = get_args(Part)
# Not about the model's device: pages and programs that show what a CPU prints, and tests of the benchmarks' own code.
LEFT_OUT = ("benchmarks", "chat", "demo", "deploy", "docs", "examples")
# One small case of each op: the sanitizer makes kernels 10 to 100 times as slow.
SANITIZED = "float16 and not property and not invariant"
SANITIZED_SECONDS = 150
NOTHING_COLLECTED = 5


@dataclass(frozen=True, slots=True)
class Job:
    """A process of one part."""

    part: Part
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """verdict: passed, failed, or why it did not run. last_line: pytest's summary."""

    part: Part
    name: str
    verdict: str
    seconds: float
    last_line: str


def jobs(parts: Sequence[Part], seconds: float) -> Iterator[Job | Outcome]:
    """What to run, and what cannot be run here, with the reason."""
    if "kernels" in parts:
        for path in sorted((TESTS / "kernels").glob("test_*.py")):
            yield _tests("kernels", path, seconds)
    if "bitwise" in parts:
        for path in sorted((TESTS / "gpu").glob("test_*.py")):
            yield _tests("bitwise", path, seconds)
    if "sanitizer" in parts:
        yield from _sanitizer_jobs()
    if "suite" in parts:
        folders = [path for path in TESTS.iterdir() if path.is_dir() and path.name not in (*LEFT_OUT, "kernels", "gpu")]
        for path in sorted(path for folder in folders for path in folder.glob("test_*.py")):
            yield _tests("suite", path, seconds)


def missing_modules(path: Path) -> list[str]:
    """Modules that a file of tests, or a file of ours that it imports, asks for and this interpreter does not have."""
    missing: set[str] = set()
    seen: set[Path] = set()
    waiting = [path, path.parent / "conftest.py", TESTS / "conftest.py"]
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        for name in _imports(file):
            if own := _own_files(name):
                waiting += own
            elif not _is_there(name.partition(".")[0]):
                missing.add(name.partition(".")[0])
    return sorted(missing)


def run(job: Job, deadline: float, logs: Path) -> Outcome:
    """Run one job, its output in a file of its own."""
    left = min(job.seconds, deadline - time.monotonic())
    if left <= 1:
        return Outcome(job.part, job.name, "no time left", 0.0, "")
    started = time.monotonic()
    log = logs / f"{job.part}-{job.name.replace('/', '-')}.log"
    with log.open("w") as file:
        try:
            code = subprocess.run(
                job.command, cwd=ROOT, env=dict(job.environment), stdout=file, stderr=file, timeout=left, check=False
            ).returncode
            verdict = "passed" if code in (0, NOTHING_COLLECTED) else "failed"
        except subprocess.TimeoutExpired:
            verdict = f"not done after {left:.0f} s"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return Outcome(job.part, job.name, verdict, time.monotonic() - started, lines[-1] if lines else "")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument(
        "--jobs", type=int, default=max(2, len(os.sched_getaffinity(0)) - 2), help="processes at a time"
    )
    parser.add_argument("--seconds", type=float, default=530.0, help="what has not begun by then does not run")
    parser.add_argument("--logs", type=Path, default=ROOT / "gpu-check", help="folder of the logs and summary.json")
    given = parser.parse_args(arguments)

    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu_check.py: torch finds no CUDA device here")
    given.logs.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + given.seconds
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(given.jobs) as pool:
        planned = list(jobs(given.only, given.seconds))
        futures = [pool.submit(run, job, deadline, given.logs) for job in planned if isinstance(job, Job)]
        for outcome in [job for job in planned if isinstance(job, Outcome)]:
            outcomes.append(outcome)
            _tell(outcome)
        for future in futures:
            outcomes.append(future.result())
            _tell(outcomes[-1])

    properties = torch.cuda.get_device_properties(0)
    summary = {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain")),
        "parts": list(given.only),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (given.logs / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    bad = [outcome for outcome in outcomes if outcome.verdict != "passed"]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} passed on {properties.name}; logs in {given.logs}")
    for part in given.only:
        if not any(outcome.part == part for outcome in outcomes):
            raise SystemExit(f"gpu_check.py: nothing to run for {part}")
    if bad:
        raise SystemExit("\n".join(f"{outcome.part} {outcome.name}: {outcome.verdict}" for outcome in bad))


def _tests(part: Part, path: Path, seconds: float) -> Job | Outcome:
    name = str(path.relative_to(TESTS).with_suffix(""))
    if missing := missing_modules(path):
        return Outcome(part, name, f"not run: no module {', '.join(missing)}", 0.0, "")
    command = (sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(path))
    return Job(part, name, command, _environment(), seconds)


def _sanitizer_jobs() -> Iterator[Job | Outcome]:
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        yield Outcome("sanitizer", "compute-sanitizer", "not run: there is no compute-sanitizer here", 0.0, "")
        return
    # Without torch's cache of memory each tensor is an allocation of its own, whose ends the sanitizer guards.
    environment = {**_environment(), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool in ("memcheck", "racecheck"):
        for path in sorted((TESTS / "kernels").glob("test_*.py")):
            if path.stem in ("test_every_op", "test_configurations") or missing_modules(path):
                continue
            command = (program, "--tool", tool, "--target-processes", "application-only", "--error-exitcode", "9")
            tests = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", SANITIZED, str(path))
            yield Job("sanitizer", f"{tool}-{path.stem}", command + tests, environment, SANITIZED_SECONDS)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(ROOT / source) for source in SOURCES)}


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """The modules that a file imports when it is loaded."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # What is imported from a package may be a module of it.
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if _own_files(f"{node.module}.{alias.name}")
            )


@cache
def _own_files(name: str) -> list[Path]:
    """The file of a module of ours, and those of the packages that it is in."""
    parts = name.split(".")
    for source in SOURCES:
        path = ROOT.joinpath(source, *parts)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                packages = [ROOT.joinpath(source, *parts[:depth], "__init__.py") for depth in range(1, len(parts))]
                return [file, *packages]
    return []


def _is_there(name: str) -> bool:
    return name in sys.builtin_module_names or importlib.util.find_spec(name) is not None


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _tell(outcome: Outcome) -> None:
    print(
        f"{outcome.verdict:>8}  {outcome.seconds:5.0f} s  {outcome.part} {outcome.name}  {outcome.last_line}",
        flush=True,
    )


if __name__ == "__main__":
    main()
