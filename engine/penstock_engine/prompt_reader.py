"""`PromptReader`: from the hidden states of a batch to what is told of the prompts in it.

Logits of a prompt are many and each is looked at once, so they are made in pieces, and only the few numbers that are
told of a piece reach the host. The log-probabilities are the floats that the same tokens get when they are generated:
with fused kernels those of launched steps, else the sampler's.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from penstock_decoding.best import best_tokens
from penstock_engine.batch import Batch
from penstock_engine.group import Group
from penstock_engine.outputs import TokenLogprobs
from penstock_engine.reading import SCORES_NOT_FINITE, STATES_NOT_FINITE, PartRead
from penstock_kernels import Kernels

PIECE_BYTES = 2**25
"""Of a piece's float32 logits: 64 rows of a vocabulary of 131072. What is made of them takes about twice as much."""


class PromptReader:
    """Reads what the entries of a batch want read."""

    def __init__(self, head: Callable[[Tensor], Tensor], vocab_size: int, kernels: Kernels) -> None:
        """`head`: from hidden states [rows, hidden_size] to logits [rows, vocab_size] float32, contiguous."""
        self._head = head
        self._vocab_size = vocab_size
        self._kernels = kernels
        self._piece = max(PIECE_BYTES // (vocab_size * torch.float32.itemsize), 1)

    def read(self, batch: Batch, states: Tensor) -> dict[Group, PartRead]:
        """What is told of each group whose prompt is read.

        Args:
            states: [T, hidden_size], behind the model's last norm, of the batch's T tokens, entry after entry.
        """
        spans = _spans(batch)
        rows = [row for span in spans for row in span.told]
        told: list[TokenLogprobs | None] = []
        for start in range(0, len(rows), self._piece):
            told += self._told(states, rows[start : start + self._piece])
        parts, start = {}, 0
        for span in spans:
            parts[span.group] = _part(span, told[start : start + len(span.told)], states)
            start += len(span.told)
        return parts

    def _told(self, states: Tensor, rows: "Sequence[_Row]") -> list[TokenLogprobs | None]:
        """Of one piece's rows; None for one in which the model's scores are not finite."""
        index = torch.tensor([row.place for row in rows]).to(states.device)
        tokens = torch.tensor([row.token for row in rows]).to(states.device)
        num_top = min(max(row.num_top for row in rows), self._vocab_size)
        scores = self._head(self._kernels.gather_last(states, index))
        is_finite = scores.amax(-1).isfinite()
        if self._kernels.name.startswith("fused"):
            chosen, top_ids, top = self._kernels.token_logprobs(scores, tokens, num_top)
        else:
            # In the order of the log-probabilities, as the sampler has it: two scores may round to the same one.
            scores = scores.log_softmax(-1).nan_to_num_(nan=-torch.inf, neginf=-torch.inf)
            top_ids = best_tokens(scores, num_top)
            chosen, top = scores.gather(-1, tokens[:, None]).squeeze(-1), scores.gather(-1, top_ids)
        whole = torch.cat([_ranks(scores, tokens)[:, None], is_finite[:, None], top_ids], 1).tolist()
        values = torch.cat([chosen[:, None], top], 1).tolist()
        return [
            TokenLogprobs(own, tuple(zip(ids[: row.num_top], best[: row.num_top], strict=True)), rank)
            if is_sound
            else None
            for row, (rank, is_sound, *ids), (own, *best) in zip(rows, whole, values, strict=True)
        ]


class _Row(NamedTuple):
    """A row of the states, the token that follows it, and how many of the likeliest are told beside that one."""

    place: int
    token: int
    num_top: int


class _Span(NamedTuple):
    """What is read of one entry, up to, not including, position `end`: see `PartRead`. `pooled`: rows of the states."""

    group: Group
    end: int
    told: list[_Row]
    pooled: range


def _spans(batch: Batch) -> list[_Span]:
    spans = []
    start = 0
    for entry in batch.entries:
        reading, positions = entry.group.reading, entry.unread
        if reading is not None and positions:
            prompt, asked = entry.sequence.prompt, reading.asked
            first_row = start - entry.sequence.num_computed  # that of position 0, were it in the batch
            told = []
            if asked.num_logprobs is not None:
                # What follows the last position is not the prompt's.
                followed = range(max(positions.start, asked.first - 1), min(positions.stop, len(prompt) - 1))
                told = [_Row(first_row + place, prompt[place + 1], asked.num_logprobs) for place in followed]
            pooled = range(0)
            if asked.pooling == "mean" or (asked.pooling == "last" and positions.stop == len(prompt)):
                pooled = positions if asked.pooling == "mean" else positions[-1:]
            rows = range(first_row + pooled.start, first_row + pooled.stop) if pooled else pooled
            spans.append(_Span(entry.group, positions.stop, told, rows))
        start += entry.num_tokens
    return spans


def _part(span: _Span, told: Sequence[TokenLogprobs | None], states: Tensor) -> PartRead:
    sound = tuple(one for one in told if one is not None)
    if len(sound) < len(told):
        return PartRead(span.end, fault=SCORES_NOT_FINITE)
    if not span.pooled:
        return PartRead(span.end, sound)
    # A float64 sum of bfloat16 numbers is all but exact: how a prompt is cut hardly ever shows in its mean.
    hidden = states[span.pooled.start : span.pooled.stop].sum(0, dtype=torch.float64).cpu().numpy()
    if not np.isfinite(hidden).all():
        return PartRead(span.end, fault=STATES_NOT_FINITE)
    return PartRead(span.end, sound, hidden)


def _ranks(scores: Tensor, tokens: Tensor) -> Tensor:
    """The tokens' places [rows] int64 in their rows of `scores` [rows, vocab]: largest first, then the lowest ids."""
    own = scores.gather(-1, tokens[:, None])
    row, tied = (scores == own).nonzero(as_tuple=True)
    num_tied_before = row[tied < tokens[row]].bincount(minlength=len(scores))
    # On a CPU booleans are summed as int32 in a tenth of the time that int64 takes, torch's default.
    return (scores > own).sum(-1, dtype=torch.int32) + num_tied_before + 1
