"""Draws from rows of scores what each is asked for: best, sampled or perturbed tokens, each kind in one go."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.best import best_token
from penstock_decoding.draw import draw_tokens
from penstock_decoding.draw_best import draw_best
from penstock_decoding.draws import BestTokens, PerturbedTokens, SampledTokens
from penstock_decoding.perturb import perturbed_tokens
from penstock_decoding.philox import uniforms
from penstock_decoding.processor import Row
from penstock_decoding.sample_row import SampleRow

# Tokens, log-probabilities, perturbed log-probabilities: see `RowDraws`.
Draws = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64] | None]
Asked = TypeVar("Asked", BestTokens, SampledTokens, PerturbedTokens)


def draw_rows(scores: Tensor, rows: Sequence[SampleRow]) -> dict[int, Draws]:
    """What each row is asked for, by row.

    Args:
        scores: [rows, vocab] float32; excluded tokens are -inf.
        rows: what each row is asked for.
    """
    sampled = _asking(rows, SampledTokens)
    best = _asking(rows, BestTokens)
    single = {i: asked for i, asked in best.items() if not asked.with_logprobs}
    several = {i: asked for i, asked in best.items() if asked.with_logprobs}
    perturbed = _asking(rows, PerturbedTokens)
    drawn: dict[int, Draws] = {}
    if sampled:
        drawn |= _draw_sampled(_only(scores, sampled), [rows[i].row for i in sampled], sampled)
    if single:
        tokens = best_token(_only(scores, single)).cpu().numpy()
        drawn |= {i: (tokens[place : place + 1], _unasked(1), None) for place, i in enumerate(single)}
    if several:
        parts = draw_best(_only(scores, several), list(several.values()))
        drawn |= {i: (*part, None) for i, part in zip(several, parts, strict=True)}
    if perturbed:
        arrivals = perturbed_tokens(_only(scores, perturbed), [(rows[i].row, perturbed[i]) for i in perturbed])
        drawn |= dict(zip(perturbed, arrivals, strict=True))
    return drawn


def _asking(rows: Sequence[SampleRow], kind: type[Asked]) -> dict[int, Asked]:
    return {i: row.draw for i, row in enumerate(rows) if isinstance(row.draw, kind)}


def _only(values: Tensor, rows: dict[int, Asked]) -> Tensor:
    return values if len(rows) == len(values) else values[torch.tensor(list(rows), device=values.device)]


def _unasked(count: int) -> NDArray[np.float32]:
    return np.full(count, np.nan, np.float32)


def _draw_sampled(scores: Tensor, rows: list[Row], asked: dict[int, SampledTokens]) -> dict[int, Draws]:
    sizes = [len(draw.samples) for draw in asked.values()]
    numbers = uniforms(
        np.repeat(np.asarray([row.seed for row in rows], np.int64), sizes),
        np.asarray([sample for draw in asked.values() for sample in draw.samples], np.int64),
        np.repeat(np.asarray([row.position for row in rows], np.int64), sizes),
    )
    device = scores.device
    from_row = torch.arange(len(rows), device=device).repeat_interleave(torch.tensor(sizes, device=device))
    tokens = draw_tokens(scores, from_row, torch.from_numpy(numbers).to(device))
    parts = np.split(tokens.cpu().numpy(), np.cumsum(sizes)[:-1])
    drawn: dict[int, Draws] = {i: (part, _unasked(len(part)), None) for i, part in zip(asked, parts, strict=True)}
    with_logprobs = [place for place, draw in enumerate(asked.values()) if draw.with_logprobs]
    if with_logprobs:
        chosen = scores[torch.tensor(with_logprobs, device=device)].log_softmax(-1)
        for place, logprobs in zip(with_logprobs, chosen, strict=True):
            ids = torch.from_numpy(parts[place]).to(device)
            own = logprobs[ids].nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # a row without any token
            drawn[list(asked)[place]] = (parts[place], own.cpu().numpy(), None)
    return drawn
