"""`token_logprobs` in torch: the specification."""

import torch
from torch import Tensor


def token_logprobs(scores: Tensor, tokens: Tensor, num_top: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `TokenLogprobs`."""
    # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
    # A row of -inf alone has no softmax: all of it is NaN.
    logprobs = scores.log_softmax(-1).nan_to_num_(nan=-torch.inf, neginf=-torch.inf)
    chosen = logprobs.gather(-1, tokens.clamp(min=0)[:, None]).squeeze(-1).where(tokens >= 0, -torch.inf)
    # A stable sort leaves equal scores in the order of their ids, and takes -0.0 and 0.0 for equal.
    top_ids = scores.sort(dim=-1, descending=True, stable=True).indices[:, :num_top]
    return chosen, top_ids, logprobs.gather(-1, top_ids)
