"""Draws the best tokens of rows of scores, with their log-probabilities.

A wide search goes on with the best tokens of all its rows together, most of which give only a few. So each row's first
few are drawn, and the full number only of rows whose next token could still be among them: for 512 rows and 1024 tokens
of 49152 that takes half the time. Nothing that the search would choose is left out, ties included.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.best import best_tokens
from penstock_decoding.draws import NO_TOKEN, BestTokens

# A search's rows are drawn in two goes if they are asked for more than four times as many tokens as this.
FIRST_FEW = 32

# One row's tokens and log-probabilities.
BestDraws = tuple[NDArray[np.int64], NDArray[np.float32]]


def draw_best(scores: Tensor, asked: list[BestTokens]) -> list[BestDraws]:
    """Best and named tokens with their log-probabilities; a row without any token has only -inf.

    Args:
        scores: [rows, vocab] float32; excluded tokens are -inf.
        asked: what each row is asked for.
    """
    # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
    logprobs = scores.log_softmax(-1).nan_to_num_(nan=-torch.inf, neginf=-torch.inf)
    drawn = _best(scores, logprobs, range(len(asked)), [_first_count(draw) for draw in asked])
    searches: dict[int, list[int]] = {}
    for place, draw in enumerate(asked):
        if _first_count(draw) < draw.count:
            searches.setdefault(id(draw.search), []).append(place)
    short = [place for rows in searches.values() for place in _short_rows(rows, asked, drawn)]
    if short:
        for place, draws in zip(
            short, _best(scores, logprobs, short, [asked[place].count for place in short]), strict=True
        ):
            drawn[place] = draws
    for rows in searches.values():
        width = max(len(drawn[place][0]) for place in rows)
        for place in rows:
            drawn[place] = _filled_up(drawn[place], width)
    return [
        _with_named(draws, draw, logprobs[place]) for place, (draws, draw) in enumerate(zip(drawn, asked, strict=True))
    ]


def _first_count(draw: BestTokens) -> int:
    return FIRST_FEW if draw.search is not None and draw.count > 4 * FIRST_FEW else draw.count


def _best(scores: Tensor, logprobs: Tensor, rows: "range | list[int]", counts: list[int]) -> list[BestDraws]:
    if len(rows) < len(scores):
        index = torch.tensor(list(rows), device=scores.device)
        scores, logprobs = scores[index], logprobs[index]
    ids = best_tokens(scores, min(max(counts), scores.shape[-1]))
    tokens, values = ids.cpu().numpy(), logprobs.gather(-1, ids).cpu().numpy()
    return [(tokens[i, :count], values[i, :count]) for i, count in enumerate(counts)]


def _short_rows(rows: list[int], asked: list[BestTokens], drawn: list[BestDraws]) -> list[int]:
    """The rows of one search of which more tokens can be among the best of all."""
    own = np.asarray([asked[place].logprob for place in rows])
    sums = own[:, None] + np.stack([drawn[place][1] for place in rows])
    count = asked[rows[0]].count
    floor = -np.inf if sums.size < count else np.partition(sums, sums.size - count, axis=None)[sums.size - count]
    last = sums[:, -1]
    return [place for place, value in zip(rows, last, strict=True) if value >= floor and value > -np.inf]


def _filled_up(draws: BestDraws, width: int) -> BestDraws:
    tokens, values = np.full(width, NO_TOKEN, np.int64), np.full(width, -np.inf, np.float32)
    tokens[: len(draws[0])], values[: len(draws[1])] = draws
    return tokens, values


def _with_named(draws: BestDraws, draw: BestTokens, logprobs: Tensor) -> BestDraws:
    if draw.named is None:
        return draws
    named = torch.from_numpy(draw.named).to(logprobs.device)
    own = torch.where(named < 0, -torch.inf, logprobs[named.clamp(min=0)]).cpu().numpy()
    return np.concatenate((draws[0], draw.named)), np.concatenate((draws[1], own))
