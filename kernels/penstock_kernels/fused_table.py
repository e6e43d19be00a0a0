"""The tables of fused ops. The one way to the files that import Triton, taken only when such a table is asked for."""

from dataclasses import replace

from penstock_kernels.table import Kernels


def fused() -> Kernels:
    """See `Kernels.fused`."""
    return replace(Kernels.reference(), name="fused")


def fused_invariant() -> Kernels:
    """See `Kernels.fused_invariant`."""
    return replace(fused(), name="fused_invariant")
