"""`Sampler`: one pass over the scores of all rows, whatever their strategies: processors, then a draw per row.

It knows nothing of requests, branches or text. A row's result depends on that row alone: its scores, its chain, its
seed, sample index and position; never on its place in the batch or on its neighbours.
"""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.chain import merge_chains
from penstock_decoding.chain_trace import ChainTrace
from penstock_decoding.draw_rows import draw_rows
from penstock_decoding.fault_texts import MODEL_NOT_FINITE, not_finite, nothing_left
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.params import Step
from penstock_decoding.processor import Row
from penstock_decoding.processor_set import Faults, ProcessorSet
from penstock_decoding.row_logprobs import LogprobTable
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_kernels import Kernels


class Sampler:
    """Holds the processors, which remember sequences by slot; `fork`, `rollback` and `release` keep them in step."""

    def __init__(
        self, catalogue: Catalogue = SHIPPED, vocabulary: Vocabulary | None = None, kernels: Kernels | None = None
    ) -> None:
        """
        Args:
            catalogue: the processors that chains name.
            vocabulary: the bytes of the model's tokens, for the processors that need them.
            kernels: for the processors that have a faster way with them, on a device that is not the host.
        """
        self._processors = ProcessorSet(catalogue, vocabulary, kernels)

    @torch.inference_mode()
    def sample(self, scores: Tensor, rows: Sequence[SampleRow]) -> list[RowDraws]:
        """Process and draw for every row.

        Args:
            scores: the model's logits [rows, vocab] float32; changed in place.
            rows: what each row is asked for; `rows[i].row.index` is i.
        """
        model = LogprobTable(scores, _asking(row.num_logprobs for row in rows))
        trace = ChainTrace(scores, [i for i, row in enumerate(rows) if row.chain_trace])
        faults = _model_faults(scores, rows)
        for stage in merge_chains([(row.row, row.chain) for row in rows]):
            faults |= self._processors.run(stage.without(faults), scores)
            trace.follow(stage, scores)
        processed = LogprobTable(scores, _asking(row.num_processed_logprobs for row in rows))
        peaks = scores.amax(-1).tolist()
        if faults or not all(map(math.isfinite, peaks)):
            for i, peak in enumerate(peaks):
                if not math.isfinite(peak) and not _can_be_empty(rows[i], peak):
                    told = nothing_left if peak == -math.inf else not_finite
                    faults.setdefault(i, told(rows[i].chain))
            # NaN has no place in a cumulative sum: the search would end past the vocabulary and fail the whole batch.
            scores[torch.tensor(list(faults), dtype=torch.int64, device=scores.device)] = 0.0
        drawn = draw_rows(scores, rows)
        return [
            RowDraws(
                *drawn[i],
                model=model.of(i, drawn[i][0]),
                processed=processed.of(i, drawn[i][0]),
                trace=trace.of(i),
                fault=faults.get(i),
            )
            for i in range(len(rows))
        ]

    def prepares(self, chain: Sequence[Step]) -> bool:
        """Whether parameters of this chain have to be made ready."""
        return self._processors.prepares(chain)

    def prepare(self, chain: Sequence[Step]) -> list[tuple[str, Future[None]]]:
        """Begin to make a chain's parameters ready; by name of the processor, for those that have to be."""
        return self._processors.prepare(chain)

    def works_ahead(self, chain: Sequence[Step]) -> bool:
        """Whether a processor of this chain begins early for the next token."""
        return self._processors.works_ahead(chain)

    def ahead(self, row: Row, chain: Sequence[Step]) -> None:
        """The sequence will not change before its next token is chosen: begin for that. `row.index` means nothing."""
        self._processors.ahead(row, chain)

    def awaited(self, slot: int) -> list[Future[Any]]:
        """What the choice of the sequence's next token would wait for."""
        return self._processors.awaited(slot)

    def fork(self, source: int, target: int) -> None:
        """The sequence in slot `target` begins as a copy of the one in `source`."""
        self._processors.fork(source, target)

    def rollback(self, slot: int, num_kept: int) -> None:
        """The sequence's answer is cut back to its first `num_kept` tokens."""
        self._processors.rollback(slot, num_kept)

    def release(self, slot: int) -> None:
        """The sequence is over."""
        self._processors.release(slot)


def _can_be_empty(row: SampleRow, peak: float) -> bool:
    """A search can do without a row in which nothing is left; its log-probabilities of -inf tell it."""
    return peak == -math.inf and row.draw.with_logprobs


def _model_faults(scores: Tensor, rows: Sequence[SampleRow]) -> Faults:
    """The rows in which the model gave NaN or +inf, of those that have a chain: it could exclude the very tokens that
    show it, and then choose among numbers that mean nothing."""
    if not any(row.chain for row in rows):
        return {}
    peaks = scores.amax(-1).tolist()
    return {
        i: MODEL_NOT_FINITE
        for i, (row, peak) in enumerate(zip(rows, peaks, strict=True))
        if row.chain and peak != -math.inf and not math.isfinite(peak)
    }


def _asking(counts: Iterable[int | None]) -> dict[int, int]:
    return {i: count for i, count in enumerate(counts) if count is not None}
