"""Compiles configurations for a GPU that need not be there, and reads from the binary what they take.

Runs in a process in which `TRITON_INTERPRET` is not set: that is decided when a kernel is defined.
"""

import hashlib
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import penstock_kernels
from compiled.processors import PROCESSORS, WARP, resident_blocks
from compiled.resources import Failure, Resources, Task
from penstock_kernels.configuration import Configuration

_CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
# wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16, mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
_MATRIX = re.compile(r"\b((?:wgmma\.mma_async|mma)\.[a-z.]*m\d+n\d+k\d+[a-z0-9.]*)")


def ops() -> tuple[str, ...]:
    """The ops that have fused kernels."""
    folder = Path(penstock_kernels.__file__).parent
    found = (path.parent for path in folder.glob("*/fused*") if path.suffix == ".py" or (path / "__init__.py").exists())
    return tuple(sorted(path.name for path in found))


@cache
def configurations(op: str, capability: int) -> tuple[Configuration, ...]:
    """What the launchers of an op can choose.

    Raises:
        ValueError: two have one name, so that the table could not tell them apart.
    """
    module = importlib.import_module(f"penstock_kernels.{op}.fused")
    found: tuple[Configuration, ...] = tuple(module.configurations(capability))
    names = [configuration.name for configuration in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{op}, sm_{capability}: several configurations are called {', '.join(sorted(twice))}")
    return found


def tasks(op: str, capability: int) -> list[Task]:
    """A task for each of an op's configurations."""
    found = configurations(op, capability)
    _forget_places()
    return [Task(op, capability, index, each.name, digest(each, capability)) for index, each in enumerate(found)]


def digest(configuration: Configuration, capability: int) -> str:
    """Of the kernel with all that it calls, its types, constants and options, what is wanted of it, and the compiler.

    Raises:
        ValueError: as `source`.
    """
    wanted = (configuration.spill_free, configuration.why_spills)
    launched = sorted(options(configuration).items())
    parts = (source(configuration).hash(), launched, wanted, capability, triton.__version__)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def options(configuration: Configuration) -> dict[str, Any]:
    """Of the launch."""
    return {
        "num_warps": configuration.num_warps,
        "num_stages": configuration.num_stages,
        **configuration.options,
    }


def compile_one(task: Task) -> Resources | Failure:
    """Compile a configuration."""
    configuration = configurations(task.op, task.capability)[task.index]
    target = GPUTarget("cuda", task.capability, WARP)
    try:
        compiled = triton.compile(source(configuration), target=target, options=options(configuration))
    except Exception as error:  # the compiler has no root of its own, and one bad kernel must not hide the others
        return Failure(task.op, task.name, task.arch, f"{type(error).__name__}: {error}")
    registers, spilled = usage(compiled.asm["cubin"])
    num_warps, shared = compiled.metadata.num_warps, compiled.metadata.shared
    processor = PROCESSORS[task.capability]
    blocks = resident_blocks(processor, num_warps, registers, shared)
    return Resources(
        op=task.op,
        name=task.name,
        arch=task.arch,
        num_warps=num_warps,
        num_stages=configuration.num_stages,
        registers=registers,
        spilled=spilled,
        shared=shared,
        blocks=blocks,
        occupancy=blocks * num_warps / processor.max_warps,
        matrix=tuple(sorted(set(_MATRIX.findall(compiled.asm["ptx"])))),
        why_spills=configuration.why_spills,
        may_spill=not configuration.spill_free,
        digest=task.digest,
    )


def source(configuration: Configuration) -> ASTSource:
    """The kernel with the types and constants of one configuration.

    Raises:
        ValueError: an argument has neither a type nor a value, or there is no such argument.
    """
    names = configuration.kernel.arg_names
    given = {*configuration.types, *configuration.constants}
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"no type and no value for {', '.join(missing)}")
    if unknown := sorted({*given, *configuration.aligned} - set(names)):
        raise ValueError(f"the kernel has no {', '.join(unknown)}")
    return ASTSource(
        fn=configuration.kernel,
        signature={name: configuration.types.get(name, "constexpr") for name in names},
        constexprs={
            (i,): configuration.constants[name] for i, name in enumerate(names) if name in configuration.constants
        },
        attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in configuration.aligned},
    )


def usage(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of local memory per thread. Triton's kernels keep nothing there but what was spilled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        text = subprocess.run(
            [str(_CUOBJDUMP), "-res-usage", str(path)], capture_output=True, text=True, check=True
        ).stdout
    matches = list(_numbers(text))
    assert matches, f"cuobjdump says nothing of a kernel: {text!r}"
    return max(registers for registers, _ in matches), max(local for _, local in matches)


def _forget_places() -> None:
    """Let kernels not know in which line they begin, which Triton makes part of a kernel's hash."""
    for name, module in list(sys.modules.items()):
        if name.startswith("penstock_kernels."):
            for value in vars(module).values():
                if isinstance(value, triton.JITFunction):
                    value.starting_line_number = 0


def _numbers(text: str) -> Iterator[tuple[int, int]]:
    for match in _USAGE.finditer(text):
        registers, stack, _, local = map(int, match.groups())
        yield registers, max(stack, local)


def refuse_interpreter() -> None:
    """Raises RuntimeError where kernels would be interpreted: they could not be compiled."""
    if os.environ.get("TRITON_INTERPRET"):
        raise RuntimeError("TRITON_INTERPRET is set: kernels cannot be compiled in this process")
