"""Sums over whole rows of scores, whose last bit is the row's own matter.

torch splits a long sum among threads when it is the only one and not when there are several, so that `values.sum(-1)`
rounds by how many rows share the batch. Here every row is summed in blocks, each too short to be split.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 128
LOWEST = -3.4028234663852886e38  # of all finite float32


def row_sums(values: "Tensor") -> "Tensor":
    """The sum of each row of `values` [rows, vocab] float32, as float64 [rows, 1]; float32 only within a block."""
    num_blocks = values.shape[-1] // BLOCK
    whole = num_blocks * BLOCK
    blocks = values[:, :whole].reshape(len(values), num_blocks, BLOCK).sum(-1).double()
    return (blocks.sum(-1) + values[:, whole:].double().sum(-1))[:, None]


def entropies(logprobs: "Tensor") -> "Tensor":
    """The entropy in nats of each row of log-probabilities [rows, vocab], as float64 [rows, 1]; NaN for a row of NaN.

    What is excluded (-inf) weighs nothing.
    """
    return -row_sums(logprobs.exp().mul_(logprobs.clamp(min=LOWEST)))
