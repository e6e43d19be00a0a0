"""`largest_values`: the largest scores of each row, found by way of the largest of each block.

A row's k largest lie in the k blocks with the largest maxima, but for ties, which have the same value. Maxima are
vectorised and read the row once; `topk`, which goes through what it is given one by one, gets k blocks instead of all.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 128


def largest_values(values: "Tensor", count: int) -> "Tensor":
    """The `count` largest of each row of `values` [rows, vocab], largest first: [rows, count]. No NaN among them."""
    num_rows, vocab_size = values.shape
    num_blocks = vocab_size // BLOCK
    if 2 * count > num_blocks:
        return values.topk(count, dim=-1).values
    blocks = values[:, : num_blocks * BLOCK].reshape(num_rows, num_blocks, BLOCK)
    chosen = blocks.amax(-1).topk(count, dim=-1, sorted=False).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    tail = values[:, num_blocks * BLOCK :]  # what no whole block covers is looked at in any case
    candidates = values.new_empty((num_rows, inside.shape[1] + tail.shape[1]))
    candidates[:, : inside.shape[1]] = inside
    candidates[:, inside.shape[1] :] = tail
    return candidates.topk(count, dim=-1).values
