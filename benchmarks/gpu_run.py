"""What the benchmarks of kernels have in common: flags, device, tables of kernels, and a result written as it grows."""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from kernels.contest import Contest, Scale, Tables
from kernels.floors import measure_floors
from kernels.hold import Held, hold
from machine import RESULTS, gpu_facts, write_result

from penstock_kernels import Kernels

TABLES = ("reference", "fused", "fused_invariant")


Contests = Callable[[Tables, Scale, torch.device], Iterator[Contest]]


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark: the name of its result, what it says of itself, and the contests of its ops, what matters first."""

    name: str
    description: str | None
    ops: Mapping[str, Contests]


def run(benchmark: Run, arguments: Sequence[str] | None) -> None:
    """Read the flags, hold the contests, write the result."""
    started = time.monotonic()
    given = _parser(benchmark).parse_args(arguments)
    device = device_of(given.device)
    refuse_without_gpu(device, given.scale)
    tables = {name: getattr(Kernels, name)() for name in given.tables or tables_of(device)}
    floors = measure_floors(device)
    print(f"copies at {floors.copy_bandwidth / 1e9:.0f} GB/s, products at {floors.matmul_rate / 1e12:.1f} TFLOP/s")

    def write(held: Held) -> Path:
        settings = {"scale": given.scale, "seconds": given.seconds, "tables": list(tables)}
        figures: dict[str, Any] = {"settings": settings, "gpu": gpu_facts(), "floors": floors.as_json()}
        return write_result(benchmark.name, figures | held.as_json(), given.results, commit=given.commit)

    ops = given.ops or benchmark.ops
    contests = itertools.chain.from_iterable(benchmark.ops[op](tables, given.scale, device) for op in ops)
    held = hold(contests, floors, device, deadline=started + given.seconds, after_each=write)
    print(f"\nwritten to {write(held)}")
    for line in held.not_measured:
        print(f"not measured: {line}")
    if held.problems:
        sys.exit("\n".join(held.problems))


def tables_of(device: torch.device) -> tuple[str, ...]:
    """The tables that run there; under Triton's interpreter the fused ones run on a CPU when they are asked for."""
    return TABLES if device.type == "cuda" else ("reference",)


def device_of(name: str) -> torch.device:
    """`auto` is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def refuse_without_gpu(device: torch.device, scale: Scale) -> None:
    """End with a reason where figures would mean nothing. Tiny sizes on a CPU get one thread, as they need no more."""
    if device.type == "cpu":
        if scale != "tiny":
            sys.exit("there is no GPU here; on a CPU only --scale tiny runs, which measures nothing")
        torch.set_num_threads(1)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What all GPU benchmarks take."""
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--scale", choices=get_args(Scale), default="full", help="how much is measured")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin nothing new after that long; default: no limit"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    parser.add_argument("--commit", help="of the source, where it is a copy without its repository")


def _parser(benchmark: Run) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=benchmark.description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    parser.add_argument("--ops", nargs="+", choices=benchmark.ops, help="only these; default: all")
    parser.add_argument("--tables", nargs="+", choices=TABLES, help="tables of kernels; default: all that run there")
    return parser
