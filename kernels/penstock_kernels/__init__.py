"""Tensors in, tensors out: one folder per op, with its contract, its reference and its test cases.

`Kernels` is a frozen table of ops that callers receive as a value. Nothing here knows what a model or a request is.
"""

from penstock_kernels.paged_attention.batch import AttentionBatch
from penstock_kernels.table import Kernels, NoSuchKernels, select_kernels

__all__ = ["AttentionBatch", "Kernels", "NoSuchKernels", "select_kernels"]
