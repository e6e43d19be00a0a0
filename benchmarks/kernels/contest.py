"""`Contest`: one op at one size, and who competes in it.

The folder is a package without `__init__.py`: transformers takes an importable `kernels` with one for a library of that
name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.tolerance import RELATIVE

Result = Tensor | tuple[Tensor, ...]
Step = Callable[[], Result]
Side = Callable[[], Step]
"""Makes a step on inputs of its own, of the same values every time: some ops work in place."""

Scale = Literal["full", "quick", "tiny"]
"""full: what is published. quick: the cases that goals are set for. tiny: seconds on a CPU, to see that it runs."""


class WrongResult(AssertionError):
    """A side gives another result than the specification; the message says how far off it is."""


@dataclass(frozen=True, slots=True)
class Goal:
    """At least this share of the floor, at least so many operations per second, or at most so many seconds."""

    kind: Literal["share", "operations_per_second", "seconds"]
    value: float


@dataclass(frozen=True, slots=True)
class Contest:
    """One op at one size.

    op: its folder in `penstock_kernels`. size: for people, such as "256 x 4096".
    num_bytes: what has to be read and written at the least, each once.
    num_operations: multiplications and additions for the matrix unit; 0 where memory alone sets the floor.
    sides: by name. Their results must agree with the first one's: whole numbers exactly, others as `dtype` allows.
    others: peers that do the like with other results, such as another order of random numbers; not compared.
    dtype: of what is computed, for the tolerance.
    not_run: peers that are left out at this size, and why.
    """

    op: str
    size: str
    num_bytes: int
    sides: Mapping[str, Side]
    dtype: torch.dtype
    num_operations: int = 0
    others: Mapping[str, Side] = field(default_factory=dict)
    goal: Goal | None = None
    not_run: Mapping[str, str] = field(default_factory=dict)


Tables = Mapping[str, Kernels]


def sides_of(tables: Tables, make: Callable[[Kernels], Step], *entries: str) -> dict[str, Side]:
    """One side for each table of kernels, but for those whose `entries` are the same functions as another table's."""

    def side(kernels: Kernels) -> Side:
        return lambda: make(kernels)

    sides: dict[str, Side] = {}
    known: list[list[object]] = []
    for name, kernels in tables.items():
        functions = [getattr(kernels, entry) for entry in entries]
        if functions not in known:
            known.append(functions)
            sides[name] = side(kernels)
    return sides


def check(name: str, result: Result, expected: Result, dtype: torch.dtype) -> None:
    """Raise `WrongResult` if a side's result is not that of the specification."""
    results = result if isinstance(result, tuple) else (result,)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    if len(results) != len(wanted):
        raise WrongResult(f"{name} gives {len(results)} tensors instead of {len(wanted)}")
    for i, (got, want) in enumerate(zip(results, wanted, strict=True)):
        if got.shape != want.shape or got.dtype != want.dtype:
            raise WrongResult(f"{name}, result {i}: {got.shape} {got.dtype} instead of {want.shape} {want.dtype}")
        if not want.is_floating_point():
            if num_wrong := int((got != want).sum()):
                raise WrongResult(f"{name}, result {i}: {num_wrong} of {want.numel()} values differ")
        elif (error := _error(got, want)) > 2 * RELATIVE[dtype]:  # both sides round
            raise WrongResult(f"{name}, result {i}: off by {error:.2e}, and {2 * RELATIVE[dtype]:.2e} is allowed")


def _error(got: Tensor, want: Tensor) -> float:
    """The largest error, relative to the value and the typical value; infinite where one is NaN or another infinity."""
    if want.numel() == 0:
        return 0.0
    same = got == want  # infinities of one sign too
    exact = want.float()
    finite = exact[exact.isfinite()]
    typical = float(finite.square().mean().sqrt()) if finite.numel() else 0.0
    errors = ((got.float() - exact).abs() / (exact.abs() + typical)).masked_fill(same, 0.0)
    worst = float(errors.nan_to_num(nan=torch.inf).max())
    return worst
