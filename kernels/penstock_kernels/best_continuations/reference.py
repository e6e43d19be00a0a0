"""`best_continuations` in torch: the specification. Two stable sorts, and no shape that depends on values."""

import torch
from torch import Tensor

from penstock_kernels.best_continuations import NO_TOKEN
from penstock_kernels.token_logprobs.reference import token_logprobs


def best_continuations(scores: Tensor, logprobs: Tensor, starts: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `BestContinuations`."""
    no_tokens = torch.full_like(logprobs, -1, dtype=torch.int64)
    _, ids, own = token_logprobs(scores, no_tokens, count)
    return best_of_lists(ids, own, logprobs, starts)


def best_of_lists(ids: Tensor, own: Tensor, logprobs: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From each row's best tokens the best of each search, as many; `ids` and `own` [rows, count], best first."""
    num_rows, count = ids.shape
    row = torch.arange(num_rows, device=ids.device).repeat_interleave(count)
    search = torch.searchsorted(starts, row, right=True) - 1
    sums = (logprobs[:, None] + own.double()).flatten()
    # Stable: of equal sums the one that stands first, row by row and in each the best first.
    best_first = sums.sort(descending=True, stable=True).indices
    by_search = best_first[search[best_first].sort(stable=True).indices]
    # The candidates of search i are count for each of its rows, from starts[i] * count on.
    places = by_search[starts[:-1, None] * count + torch.arange(count, device=ids.device)]
    tokens, values = ids.flatten()[places], own.flatten()[places]
    return row[places], tokens.where(values > -torch.inf, NO_TOKEN), values
