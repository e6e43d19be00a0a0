"""Draws tokens from rows of scores by the inverse of their cumulative distribution, with given uniform numbers.

Two levels, blocks and then tokens of one block, so that no cumulative sum runs over a whole vocabulary. Every sum runs
over one row alone and in a fixed order: a draw does not depend on which other rows are there.
"""

import torch
from torch import Tensor

BLOCK = 128


def draw_tokens(scores: Tensor, rows: Tensor, uniforms: Tensor) -> Tensor:
    """The token at each uniform number's place in the cumulative distribution, tokens in order of their ids.

    Args:
        scores: [rows, vocab] float32; excluded tokens are -inf.
        rows: [draws] int64, which row each draw is from.
        uniforms: [draws] float64 in [0, 1).

    Returns:
        [draws] int64 token ids, never an excluded one but from a row that has no other; what it gives there means
        nothing.
    """
    num_rows, vocab_size = scores.shape
    # A softmax, though nothing needs the weights to add up to 1: `exp` takes ten times as long where it meets -inf.
    weights = scores.softmax(-1)
    padding = -vocab_size % BLOCK
    if padding:
        weights = torch.nn.functional.pad(weights, (0, padding))
    blocks = weights.view(num_rows, -1, BLOCK)
    # A row without any token has no softmax, and NaN has no place in a cumulative sum.
    reached = blocks.sum(-1).nan_to_num_(nan=0.0).double().cumsum(-1)[rows]  # [draws, blocks]
    target = uniforms * reached[:, -1]
    block = _first_above(reached, target)
    before = torch.where(block > 0, reached.gather(-1, (block - 1).clamp_(min=0)[:, None]).squeeze(-1), 0.0)
    mass = reached.gather(-1, block[:, None]).squeeze(-1) - before
    # What remains of the target, as a share of its block, finds the token in the block's own cumulative sum: the two
    # levels round differently, and a share of the whole cannot point past either's end.
    share = ((target - before) / mass).clamp_(0.0, 1.0)
    inside = blocks[rows, block].nan_to_num_(nan=0.0).double().cumsum(-1)  # [draws, BLOCK]
    return block * BLOCK + _first_above(inside, share * inside[:, -1])


def _first_above(cumulative: Tensor, target: Tensor) -> Tensor:
    """The first place whose cumulative weight exceeds the target; the last one with any weight if rounding hides it."""
    place = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(-1)
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()).squeeze(-1)
    return torch.minimum(place, last)
