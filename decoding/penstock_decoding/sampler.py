"""`Sampler`: one pass over the scores of all rows, whatever their strategies: processors, then a draw per row.

It knows nothing of requests, branches or text. A row's result depends on that row alone: its scores, its chain, its
seed, sample index and position; never on its place in the batch or on its neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.best import best_token, best_tokens
from penstock_decoding.chain import merge_chains
from penstock_decoding.draw import draw_tokens
from penstock_decoding.params import Step
from penstock_decoding.philox import uniforms
from penstock_decoding.processor import Processor, Row, Stateful
from penstock_decoding.processors import PROCESSORS


@dataclass(frozen=True, slots=True)
class SampleRow:
    """What one row of scores is asked for.

    `samples`: the sample indices to draw, one token each; None: the `num_best` best tokens instead. `position`: the
    absolute position of the token to be drawn. `num_logprobs`: as in `DecodingParams`.
    """

    row: Row
    chain: tuple[Step, ...]
    seed: int
    position: int
    samples: tuple[int, ...] | None
    num_best: int = 1
    num_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class RowDraws:
    """What one row gave.

    `tokens` [draws]; `logprobs` [draws] processed log-probabilities, NaN unless several best were asked for;
    `model_logprobs` [draws], the model's own, and `top` (token id, log-probability) pairs, both empty unless asked.
    `is_valid` is False if the scores held NaN or +inf, or no token at all was left: the tokens then mean nothing.
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    model_logprobs: tuple[float, ...]
    top: tuple[tuple[int, float], ...]
    is_valid: bool


class Sampler:
    """Holds the processors, which remember sequences by slot; `fork`, `rollback` and `release` keep them in step."""

    def __init__(self, processors: Mapping[str, type[Processor]] = PROCESSORS) -> None:
        self._processors: dict[str, Processor] = {name: make() for name, make in processors.items()}
        self._stateful = [p for p in self._processors.values() if isinstance(p, Stateful)]

    @torch.inference_mode()
    def sample(self, scores: Tensor, rows: Sequence[SampleRow]) -> list[RowDraws]:
        """Process and draw for every row.

        Args:
            scores: the model's logits [rows, vocab] float32; changed in place.
            rows: what each row is asked for; `rows[i].row.index` is i.
        """
        model = _ModelLogprobs(scores, rows)
        for stage in merge_chains([(row.row, row.chain) for row in rows]):
            plan = self._processors[stage.processor].plan(stage.asks)
            if plan is not None:
                plan.apply(scores)
        peaks = scores.amax(-1)
        is_finite = peaks.isfinite()
        is_valid = is_finite.tolist()
        if not all(is_valid):
            # NaN has no place in a cumulative sum: the search would end past the vocabulary and fail the whole batch.
            scores[~is_finite], peaks[~is_finite] = 0.0, 0.0
        drawn = _draw_sampled(scores, peaks, rows) | _draw_best(scores, rows)
        return [RowDraws(*drawn[i], *model.of(i, drawn[i][0]), is_valid=is_valid[i]) for i in range(len(rows))]

    def fork(self, source: int, target: int) -> None:
        """The sequence in slot `target` begins as a copy of the one in `source`."""
        for processor in self._stateful:
            processor.fork(source, target)

    def rollback(self, slot: int, num_kept: int) -> None:
        """The sequence's answer is cut back to its first `num_kept` tokens."""
        for processor in self._stateful:
            processor.rollback(slot, num_kept)

    def release(self, slot: int) -> None:
        """The sequence is over."""
        for processor in self._stateful:
            processor.release(slot)


Draws = tuple[NDArray[np.int64], NDArray[np.float32]]


def _draw_sampled(scores: Tensor, peaks: Tensor, rows: Sequence[SampleRow]) -> dict[int, Draws]:
    sampled = [(i, row, row.samples) for i, row in enumerate(rows) if row.samples is not None]
    if not sampled:
        return {}
    sizes = [len(samples) for _, _, samples in sampled]
    numbers = uniforms(
        np.repeat(np.asarray([row.seed for _, row, _ in sampled], np.int64), sizes),
        np.asarray([sample for _, _, samples in sampled for sample in samples], np.int64),
        np.repeat(np.asarray([row.position for _, row, _ in sampled], np.int64), sizes),
    )
    indices = [i for i, _, _ in sampled]
    if len(indices) < len(rows):
        chosen = torch.tensor(indices, device=scores.device)
        scores, peaks = scores[chosen], peaks[chosen]
    tokens = draw_tokens(
        scores,
        peaks,
        torch.arange(len(indices), device=scores.device).repeat_interleave(torch.tensor(sizes, device=scores.device)),
        torch.from_numpy(numbers).to(scores.device),
    )
    parts = np.split(tokens.cpu().numpy(), np.cumsum(sizes)[:-1])
    return {i: (part, np.full(part.shape, np.nan, np.float32)) for i, part in zip(indices, parts, strict=True)}


def _draw_best(scores: Tensor, rows: Sequence[SampleRow]) -> dict[int, Draws]:
    best = {i: row.num_best for i, row in enumerate(rows) if row.samples is None}
    drawn: dict[int, Draws] = {}
    single = [i for i, count in best.items() if count == 1]
    if single:
        chosen = scores if len(single) == len(rows) else scores[torch.tensor(single, device=scores.device)]
        tokens = best_token(chosen).cpu().numpy()
        nothing = np.full(1, np.nan, np.float32)
        drawn |= {i: (tokens[place : place + 1], nothing) for place, i in enumerate(single)}
    several = [i for i, count in best.items() if count > 1]
    if several:
        chosen = scores[torch.tensor(several, device=scores.device)]
        ids = best_tokens(chosen, max(best[i] for i in several))
        # Not logsumexp: its sum is split among threads when the rows are few, so it rounds by what shares the batch.
        logprobs = chosen.log_softmax(-1).gather(-1, ids).cpu().numpy()
        drawn |= {
            i: (row_ids[: best[i]], row_logprobs[: best[i]])
            for i, row_ids, row_logprobs in zip(several, ids.cpu().numpy(), logprobs, strict=True)
        }
    return drawn


class _ModelLogprobs:
    """The log-softmax of the untouched logits, for the rows that ask; made before any processor runs."""

    def __init__(self, scores: Tensor, rows: Sequence[SampleRow]) -> None:
        asking = {i: row.num_logprobs for i, row in enumerate(rows) if row.num_logprobs is not None}
        self._place = {i: place for place, i in enumerate(asking)}
        self._num_top = asking
        if asking:
            chosen = scores[torch.tensor(list(asking), device=scores.device)]
            self._logprobs = chosen.log_softmax(-1)
            ids = best_tokens(self._logprobs, max(asking.values()))
            self._top_ids, self._top_values = ids.tolist(), self._logprobs.gather(-1, ids).tolist()

    def of(self, row: int, tokens: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[tuple[int, float], ...]]:
        """The log-probabilities of these tokens, and the row's likeliest."""
        if row not in self._place:
            return (), ()
        place, num_top = self._place[row], self._num_top[row]
        chosen = self._logprobs[place, torch.from_numpy(tokens).to(self._logprobs.device)].tolist()
        top = zip(self._top_ids[place][:num_top], self._top_values[place][:num_top], strict=True)
        return tuple(chosen), tuple(top)
