"""Which tables of kernels the tests compare, and where: on a GPU where there is one, else fused ones interpreted."""

import pytest
import torch
from interpreted_language import patch_the_language_once

from penstock_kernels import Kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Under the interpreter of Triton (tests/conftest.py sets it) fused kernels run on the CPU."""

IS_INTERPRETED = DEVICE.type == "cpu"

if IS_INTERPRETED:
    patch_the_language_once()

TABLES = ("reference", "fused", "fused_invariant")


def table(name: str) -> Kernels:
    """The table of this name."""
    kernels: Kernels = getattr(Kernels, name)()
    return kernels


def skip_if_wrong_when_interpreted(name: str, dtype: torch.dtype) -> None:
    """For ops that multiply matrices: Triton's interpreter has `tl.dot` wrong for bfloat16 (3.6 to 3.9)."""
    if IS_INTERPRETED and name != "reference" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies bfloat16 matrices wrongly; a GPU does not")


def skip_if_no_kernel_reads_it(name: str, dtype: torch.dtype, stored: torch.dtype | None) -> None:
    """On a GPU the fused kernels read a quantised cache for models in half precision only."""
    if not IS_INTERPRETED and name != "reference" and dtype == torch.float32 and stored is not None:
        pytest.skip("no fused kernel reads a quantised cache in float32 on a GPU")


def truncates(name: str, dtype: torch.dtype) -> bool:
    """Whether float32 becomes `dtype` by truncation: so the interpreter makes bfloat16. A GPU rounds to the nearest."""
    return IS_INTERPRETED and name != "reference" and dtype == torch.bfloat16


def tables_of(*ops: str) -> tuple[str, ...]:
    """`TABLES` without those that hold the same functions as one before them for these fields of `Kernels`."""
    functions = {name: tuple(getattr(table(name), op) for op in ops) for name in reversed(TABLES)}
    first_with = {held: name for name, held in functions.items()}
    return tuple(name for name in TABLES if first_with[functions[name]] == name)
