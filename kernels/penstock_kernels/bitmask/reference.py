"""The exclusion of what a mask of bits does not allow, in torch."""

import torch
from torch import Tensor

WORD_BITS = 32


def apply_bitmask(scores: Tensor, mask: Tensor, rows: Tensor) -> None:
    """See `ApplyBitmask`."""
    vocab_size = scores.shape[1]
    bits = (mask[:, :, None] >> torch.arange(WORD_BITS, device=mask.device)) & 1  # [masks, words, 32]
    allowed = bits.bool().flatten(1)[:, :vocab_size]
    allowed = torch.nn.functional.pad(allowed, (0, vocab_size - allowed.shape[1]), value=False)
    asked = rows >= 0
    rows, allowed = rows[asked], allowed[asked]
    scores[rows] = scores[rows].masked_fill_(~allowed, -torch.inf)
