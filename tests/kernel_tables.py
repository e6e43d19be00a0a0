"""Which tables of kernels the tests compare, and where: on a GPU where there is one, else fused ones interpreted."""

import pytest
import torch

from penstock_kernels import Kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Under the interpreter of Triton (tests/conftest.py sets it) fused kernels run on the CPU."""

IS_INTERPRETED = DEVICE.type == "cpu"

TABLES = ("reference", "fused", "fused_invariant")


def table(name: str) -> Kernels:
    """The table of this name."""
    kernels: Kernels = getattr(Kernels, name)()
    return kernels


def skip_if_wrong_when_interpreted(name: str, dtype: torch.dtype) -> None:
    """For ops that multiply matrices: Triton's interpreter has `tl.dot` wrong for bfloat16 (3.6 to 3.9)."""
    if IS_INTERPRETED and name != "reference" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies bfloat16 matrices wrongly; a GPU does not")
