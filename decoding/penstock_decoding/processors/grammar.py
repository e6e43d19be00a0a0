"""Grammar: the answer's text follows a JSON schema, a regex, a list of choices or a context-free grammar.

Every token is excluded whose bytes cannot stand where the answer has come to. When the answer is a whole sentence of
the grammar the request's stop tokens are allowed as well, and only they once nothing can follow. So an answer that ends
by an end-of-text token is a sentence of the grammar; one that is cut short by its length is the beginning of one. A
token of ordinary text that the request names as a stop token ends the answer wherever the grammar allows that text.

Compiling a grammar, and finding what can follow, run in threads of their own: see `Prepares` and `WorksAhead`.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import Busy, ParameterError
from penstock_decoding.grammar.compiler import FAILED, Compiler
from penstock_decoding.grammar.errors import GrammarError, GrammarStuck, StatesFull
from penstock_decoding.grammar.params import GrammarParams
from penstock_decoding.grammar.progress import Mask, Progress
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection, bool_tensor, index_tensor, word_tensor

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from torch import Tensor

    from penstock_kernels import Kernels

MAX_WORKERS = 8


@dataclass(slots=True, eq=False)
class _Answer:
    """One sequence. `mask` is what follows its first `length` tokens; its thread owns `progress` until it is done."""

    params: GrammarParams
    start: "LLMatcher | None" = None
    progress: Progress | None = None
    length: int = 0
    mask: Future[Mask] | None = None

    def settle(self) -> None:
        """Wait until no thread is at work on this."""
        if self.mask is not None:
            wait_for([self.mask])


class Grammar:
    """Excludes what the grammar does not allow. Remembers each sequence's place in its grammar by slot.

    Without a vocabulary, token i is the byte i. With kernels, masks reach the scores as bits, an eighth of a byte for
    each token; without, the host unpacks them, which on a CPU is the faster way.
    """

    Params = GrammarParams
    needs_vocabulary = True
    needs_kernels = True

    def __init__(self, vocabulary: Vocabulary | None = None, kernels: "Kernels | None" = None) -> None:
        vocabulary = Vocabulary.of_bytes() if vocabulary is None else vocabulary
        self._kernels = kernels
        self._num_tokens = len(vocabulary.tokens)
        self._compiler = Compiler(vocabulary)
        # The model's own threads take all cores; what runs beside them should be little at a time.
        num_workers = min(max(len(os.sched_getaffinity(0)) // 2, 1), MAX_WORKERS)
        self._workers = ThreadPoolExecutor(num_workers, thread_name_prefix="grammar-mask")
        self._answers: dict[int, _Answer] = {}

    def prepare(self, params: GrammarParams) -> Future[None]:
        """Compile the grammar."""
        prepared: Future[None] = Future()

        def finish(compiled: "Future[LLMatcher]") -> None:
            error = compiled.exception()
            if error is None:
                prepared.set_result(None)
            else:
                prepared.set_exception(error if isinstance(error, Busy) else ParameterError(params.kind, str(error)))

        self._compiler.compile(params).add_done_callback(finish)
        return prepared

    def ahead(self, ask: Ask[GrammarParams]) -> None:
        """Begin to find what can follow the answer as it is now."""
        row = ask.row
        answer = self._answers.get(row.slot)
        if answer is None:
            answer = self._answers[row.slot] = _Answer(ask.params)
        length = len(row.output)
        if answer.mask is None or answer.length != length:
            answer.settle()
            answer.length = length
            answer.mask = self._workers.submit(self._follow, answer, list(row.output))

    def awaited(self, slot: int) -> Future[Mask] | None:
        """What the next plan for the sequence would wait for."""
        answer = self._answers.get(slot)
        return None if answer is None else answer.mask

    def plan(self, asks: Sequence[Ask[GrammarParams]]) -> "GrammarPlan":
        for ask in asks:
            self.ahead(ask)
        return GrammarPlan(asks, [self._mask(ask.row.slot) for ask in asks], self._kernels)

    def fork(self, source: int, target: int) -> None:
        answer = self._answers.get(source)
        if answer is None:
            return
        answer.settle()
        if answer.progress is None:
            self._answers[target] = _Answer(answer.params)
        else:
            self._answers[target] = _Answer(answer.params, answer.start, answer.progress.copy(), answer.length)

    def rollback(self, slot: int, num_kept: int) -> None:
        answer = self._answers.get(slot)
        if answer is None or answer.length <= num_kept:
            return
        answer.settle()
        if answer.progress is None or not answer.progress.rollback(num_kept):
            self._answers[slot] = _Answer(answer.params)  # from the start, at the next plan
        else:
            answer.length, answer.mask = num_kept, None

    def release(self, slot: int) -> None:
        self._answers.pop(slot, None)

    def _mask(self, slot: int) -> Mask:
        mask = self._answers[slot].mask
        assert mask is not None, "the sequence has just been worked ahead for"
        return mask.result()

    def _follow(self, answer: _Answer, tokens: Sequence[int]) -> Mask:
        """What follows these tokens. Runs in a thread of its own."""
        try:
            return self._mask_after(answer, tokens)
        except GrammarStuck:
            raise
        except BaseException as error:  # a panic of the parser is no Exception
            raise GrammarStuck(FAILED) from error

    def _mask_after(self, answer: _Answer, tokens: Sequence[int]) -> Mask:
        if answer.start is None or answer.progress is None:
            answer.start = _result(self._compiler.compile(answer.params))
            answer.progress = Progress(answer.start.deep_copy(), self._num_tokens)
        try:
            return answer.progress.mask(tokens[answer.progress.num_taken :])
        except StatesFull:
            # Other answers may have filled what all share. This one goes on as if it were the first.
            answer.start = _result(self._compiler.renew(answer.params, answer.start))
            answer.progress = Progress(answer.start.deep_copy(), self._num_tokens)
            return answer.progress.mask(tokens)


class GrammarPlan:
    """One mask a row."""

    def __init__(
        self, asks: Sequence[Ask[GrammarParams]], masks: Sequence[Mask], kernels: "Kernels | None" = None
    ) -> None:
        self._rows = [ask.row.index for ask in asks]
        self._kernels = kernels
        self._packed = np.stack([mask.packed for mask in masks])
        for i, (ask, mask) in enumerate(zip(asks, masks, strict=True)):
            if mask.may_end:
                _allow(self._packed[i], ask.row.stop_token_ids)

    def apply(self, scores: "Tensor") -> None:
        if self._kernels is None:
            self._apply_unpacked(scores)
        else:
            words = _fitted(self._packed, 32 * -(-self._packed.shape[1] // 4)).view(np.int32)
            self._kernels.apply_bitmask(scores, word_tensor(scores, words), index_tensor(scores, self._rows))

    def _apply_unpacked(self, scores: "Tensor") -> None:
        vocab_size = scores.shape[-1]
        excluded = np.unpackbits(~_fitted(self._packed, vocab_size), axis=1, bitorder="little")[:, :vocab_size]
        rows = RowSelection(self._rows)
        values = rows.take(scores)
        values.masked_fill_(bool_tensor(scores, excluded.view(np.bool_)), float("-inf"))
        rows.put(scores, values)


def _result(compiled: "Future[LLMatcher]") -> "LLMatcher":
    try:
        return compiled.result()
    except (Busy, GrammarError) as error:
        raise GrammarStuck(str(error)) from None


def _allow(packed: NDArray[np.uint8], tokens: Sequence[int]) -> None:
    for token in tokens:
        if token // 8 < len(packed):
            packed[token // 8] |= np.uint8(1 << token % 8)


def _fitted(packed: NDArray[np.uint8], vocab_size: int) -> NDArray[np.uint8]:
    """Wide enough for the scores; tokens that the grammar's vocabulary does not have are excluded."""
    missing = -(-vocab_size // 8) - packed.shape[1]
    return np.pad(packed, ((0, 0), (0, missing))) if missing > 0 else packed
