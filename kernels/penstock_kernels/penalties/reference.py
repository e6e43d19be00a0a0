"""Penalties on used tokens in torch. Every operation rounds on its own, in the order written: the fused form gives the
same bits."""

import torch
from torch import Tensor

from penstock_kernels.penalties import LARGEST_COUNT, WORD_BITS, PenaltyInputs, UsedTokens


def penalties(scores: Tensor, slots: Tensor, used: UsedTokens, inputs: PenaltyInputs) -> None:
    """See `Penalties`."""
    token = torch.arange(scores.shape[1], device=scores.device)
    words = used.in_prompt.index_select(0, slots)[:, token // WORD_BITS]
    count = used.counts.index_select(0, slots)
    in_answer = count > 0
    is_used = ((words >> (token % WORD_BITS)) & 1).bool() | in_answer
    repetition = inputs.repetition.masked_fill(inputs.repetition == 0, 1.0)[:, None]
    penalised = (scores / repetition).where(scores > 0, scores * repetition)
    penalised -= inputs.presence[:, None] * in_answer + inputs.frequency[:, None] * count
    scores.copy_(penalised.where(is_used, scores))


def count_tokens(used: UsedTokens, slots: Tensor, tokens: Tensor) -> None:
    """See `CountTokens`."""
    entries = slots.long(), tokens.clamp(min=0)
    count = used.counts[entries].int()
    used.counts[entries] = (count + (tokens >= 0)).clamp(max=LARGEST_COUNT).short()
