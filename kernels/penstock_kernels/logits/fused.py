"""The head by the kernels of linear layers, which write float32 here; see their package."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.linear.fused import few_rows, tiles
from penstock_kernels.linear.fused.operands import Operands, Weight, logits_variants


def logits(x: Tensor, weight: Tensor) -> Tensor:
    """See `Logits`."""
    if len(x) > few_rows.MAX_ROWS:
        return _by_cublas(x, weight)
    operands = _operands(x, weight)
    if len(x) > 0:
        few_rows.multiply_rows(operands)
    return operands.out


def logits_invariant(x: Tensor, weight: Tensor) -> Tensor:
    """As `logits`, with a row's bits independent of the number of rows."""
    operands = _operands(x, weight)
    if len(x) > 0:
        tiles.multiply_rows(operands)
    return operands.out


def configurations(capability: int) -> Iterator[Configuration]:
    """All that the launchers of this op can choose on a GPU of this compute capability."""
    yield from few_rows.configurations("logits", capability, logits_variants())
    yield from tiles.configurations("logits", capability, logits_variants(), splits=False)


def _operands(x: Tensor, weight: Tensor) -> Operands:
    # A vocabulary is programs enough: the sum is never split, so there is nothing to count.
    form = Weight("plain", weight, None, (weight.shape[0], weight.shape[1]), arrivals=None)
    return Operands.of(x, form, dtype=torch.float32)


def _by_cublas(x: Tensor, weight: Tensor) -> Tensor:
    if x.dtype == torch.float32 or not x.is_cuda:
        return F.linear(x, weight).float()
    # Float32 straight from the accumulators: no rounding, and no second pass over [rows, vocab].
    return torch.mm(x, weight.t(), out_dtype=torch.float32)
