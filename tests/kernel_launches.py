"""`Launches`: notes what is launched instead of launching it, and finds the configuration that foresaw it."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_tables import DEVICE

import penstock_kernels
from penstock_kernels.configuration import Configuration
from penstock_kernels.triton_types import TRITON_TYPES

OPS = sorted(path.parent.name for path in Path(penstock_kernels.__file__).parent.glob("*/__init__.py"))
CAPABILITIES: tuple[int, ...] = (80, 90)
# Types that only ops around the draw have.
OTHER_TYPES = {torch.float64: "fp64", torch.uint8: "u8"}
# What Triton takes where a launcher says nothing.
DEFAULTS = {"num_warps": 4, "num_stages": 3}


def foreseen() -> list[Configuration]:
    """Of all ops: for this machine's GPU, or without one for those that are compiled for."""
    capabilities = CAPABILITIES
    if DEVICE.type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        capabilities = (10 * major + minor,)
    return [each for op in OPS for capability in capabilities for each in configurations(op, capability)]


def configurations(op: str, capability: int) -> list[Configuration]:
    """What the launchers of an op can choose."""
    return list(importlib.import_module(f"penstock_kernels.{op}.fused").configurations(capability))


@dataclass(frozen=True, slots=True)
class Launch:
    """arguments: by the kernel's names, defaults filled in. options: everything else, such as num_warps."""

    kernel: Any
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def op(self) -> str:
        """The folder that the kernel is in."""
        return str(self.kernel.fn.__module__).split(".")[1]

    def is_foreseen_by(self, configuration: Configuration) -> bool:
        """Same kernel, types, constants and options."""
        wanted = {
            "num_warps": configuration.num_warps,
            "num_stages": configuration.num_stages,
            **configuration.options,
        }
        return (
            configuration.kernel is self.kernel
            and {**DEFAULTS, **self.options} == wanted
            and all(_same(self.arguments[name], value) for name, value in configuration.constants.items())
            and all(_type(self.arguments[name]) in _fitting(kind) for name, kind in configuration.types.items())
        )

    def __str__(self) -> str:
        shown = {
            name: _type(value) if isinstance(value, torch.Tensor) else value for name, value in self.arguments.items()
        }
        return f"{self.kernel.__name__}({shown}, {dict(self.options)})"


@contextmanager
def noted_launches() -> Iterator[list[Launch]]:
    """Within, kernels are not run: what they would have written is left as it was."""
    launches: list[Launch] = []

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        parameters = inspect.signature(self.fn).parameters
        given = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        given.update(zip(parameters, args, strict=False))
        given.update({name: value for name, value in kwargs.items() if name in parameters})
        launches.append(Launch(self, given, {name: value for name, value in kwargs.items() if name not in parameters}))

    kernels = {type(configuration.kernel) for op in OPS for configuration in configurations(op, 90)}
    with pytest.MonkeyPatch.context() as patch:
        for kind in kernels:
            patch.setattr(kind, "run", run)
        yield launches


def _type(value: object) -> str:
    """As Triton would type it; "" of what is no run-time argument."""
    match value:
        case torch.Tensor():
            return f"*{TRITON_TYPES.get(value.dtype) or OTHER_TYPES[value.dtype]}"
        case bool():
            return "i1"
        case int():
            return "i32" if -(2**31) <= value < 2**31 else "i64"
        case float():
            return "fp32"
    return ""


def _fitting(kind: str) -> tuple[str, ...]:
    """Types of an argument that give the kernel compiled for `kind`."""
    return ("i1", "u1") if kind in ("i1", "u1") else (kind,)


def _same(given: object, value: object) -> bool:
    """Whether a constant is what was given. Triton's own types, such as tl.bfloat16, compare by their names."""
    return (type(given) is type(value) and given == value) or str(given) == str(value)
