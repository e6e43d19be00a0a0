"""`LogprobTable`: log-probabilities of the rows that ask, with their likeliest tokens; the scores may change after."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.best import best_tokens
from penstock_decoding.sample_row import RowLogprobs


class LogprobTable:
    """The log-softmax of some rows of the scores as they are now."""

    def __init__(self, scores: Tensor, asking: Mapping[int, int]) -> None:
        """`asking`: for each row that asks, how many of its likeliest tokens."""
        self._place = {row: place for place, row in enumerate(asking)}
        self._num_top = asking
        if asking:
            chosen = scores[torch.tensor(list(asking), device=scores.device)]
            # A row without any token has no softmax; -inf tells that of each.
            self._logprobs = chosen.log_softmax(-1).nan_to_num_(nan=-torch.inf, neginf=-torch.inf)
            ids = best_tokens(self._logprobs, max(asking.values()))
            self._top_ids, self._top_values = ids.tolist(), self._logprobs.gather(-1, ids).tolist()

    def of(self, row: int, tokens: NDArray[np.int64]) -> RowLogprobs | None:
        """The log-probabilities of these tokens (-inf for `NO_TOKEN`) and the row's likeliest; None: it did not ask."""
        if row not in self._place:
            return None
        place, num_top = self._place[row], self._num_top[row]
        ids = torch.from_numpy(tokens).to(self._logprobs.device)
        chosen = torch.where(ids < 0, -torch.inf, self._logprobs[place, ids.clamp(min=0)]).tolist()
        top = zip(self._top_ids[place][:num_top], self._top_values[place][:num_top], strict=True)
        return RowLogprobs(tuple(chosen), tuple(top))
