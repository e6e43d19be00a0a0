"""`DeviceSampler`: the choice of tokens that stays on the device: no wait for the host, the same work for any batch.

It does what `Sampler` does for the rows that `takes` accepts: those whose whole chain the fused ops hold (`fusion.py`).
What such a row is asked for is a row of int32 words, which travels with the step's other inputs; what its sequence has
used so far is kept on the device by slot. `choose` can be captured in a CUDA graph. All other rows go to `Sampler`.

A slot is here a row of the device's tables. Row 0 belongs to no sequence: a row of the batch that is padding has slot 0
and words of zero, and is harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding import packed_rows
from penstock_decoding.draws import NO_TOKEN, BestTokens, SampledTokens
from penstock_decoding.fault_texts import MODEL_NOT_FINITE, nothing_left
from penstock_decoding.fusion import FusedChain, chooses_one, fuse
from penstock_decoding.packed_rows import Chosen, Word, chain_words
from penstock_decoding.params import Step
from penstock_decoding.per_params import PerParams
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_decoding.used_tokens import UsedTokensBySlot
from penstock_kernels import Kernels
from penstock_kernels.penalties import LARGEST_COUNT, PenaltyInputs
from penstock_kernels.sample import NOT_FINITE, SampleInputs

# How many of the likeliest tokens are found, if any are asked for: few numbers, so that there are few graphs.
NUM_TOP = (0, 8, 32)

_UNASKED = np.full(1, np.nan, np.float32)
_UNASKED.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Variant:
    """What the rows of a batch need together, and `choose` has to know when it is captured.

    num_top: how many of the likeliest tokens come with the log-probabilities; None: no log-probabilities.
    with_penalties: whether a row penalises what its sequence has used. with_cuts: whether a row has a top-k or a top-p.
    """

    num_top: int | None = None
    with_penalties: bool = False
    with_cuts: bool = False


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """What was chosen, on the device.

    tokens: [rows] int64; where the row failed, 0, with which a next step can be computed that will not count.
    words: [rows, width] int32, all that `draws` reads, to be copied to the host in one go.
    """

    tokens: Tensor
    words: Tensor


class DeviceSampler:
    """Chooses one token for each row of a batch, on the device."""

    WIDTH = packed_rows.WIDTH
    """int32 words that say what a row is asked for."""

    def __init__(self, kernels: Kernels, vocab_size: int, num_slots: int, device: torch.device) -> None:
        """`num_slots`: rows of the tables, row 0, which no sequence has, among them."""
        self._kernels = kernels
        self._vocab_size = vocab_size
        self._used = UsedTokensBySlot(vocab_size, num_slots, device)
        # The rows of a request hold the same chain object in every step.
        self._compiled = PerParams(self._compile)

    def takes(self, row: SampleRow) -> bool:
        """Whether this row's whole chain and draw can be done here."""
        compiled = self._compiled.of(row.chain)
        return (
            compiled is not None
            and chooses_one(row.draw)
            and row.num_processed_logprobs is None
            and not row.chain_trace
            and (row.num_logprobs is None or row.num_logprobs <= NUM_TOP[-1])
            # A count cannot pass the largest one in a shorter answer.
            and (not compiled.chain.penalises or len(row.row.output) < LARGEST_COUNT)
        )

    def variant(self, rows: Sequence[SampleRow]) -> Variant:
        """What these rows, all of which it takes, need together. Few values: `num_top` is rounded up."""
        asked = max((row.num_logprobs for row in rows if row.num_logprobs is not None), default=None)
        num_top = None if asked is None else next(count for count in NUM_TOP if asked <= count)
        chains = [self._compiled_of(row).chain for row in rows]
        return Variant(
            num_top,
            with_penalties=any(chain.penalises for chain in chains),
            with_cuts=any(chain.cuts and not _is_greedy(row) for chain, row in zip(chains, rows, strict=True)),
        )

    @torch.inference_mode()
    def encode(
        self, rows: Sequence[SampleRow], slots: Sequence[int], positions: NDArray[np.int64], out: NDArray[np.int32]
    ) -> None:
        """Write what the rows are asked for; brings the tables of used tokens up to date where they are not.

        Each call is to be followed by one of `choose`, on the same stream.

        Args:
            rows: all of which it takes. Their sequences may lack tokens that are still being chosen on the device.
            slots: of the device's tables, one for each row, none of them 0.
            positions: [rows], of the tokens to be chosen.
            out: [at least rows, WIDTH]; the rest is padding and left alone. Zeros are harmless.
        """
        num_rows = len(rows)
        if not num_rows:
            return
        compiled = [self._compiled_of(row) for row in rows]
        words = np.stack([each.words for each in compiled])
        seeds = np.asarray([row.row.seed for row in rows], np.int64)
        words[:, Word.SEED : Word.SEED + 2] = seeds[:, None].view(np.int32)
        words[:, Word.SAMPLE] = [_sample_of(row) for row in rows]
        words[:, Word.POSITION] = positions
        words[[_is_greedy(row) for row in rows], Word.TEMPERATURE] = 0
        out[:num_rows] = words
        penalised = [i for i, each in enumerate(compiled) if each.chain.penalises]
        if penalised:
            self._used.catch_up([(slots[i], rows[i].row, int(positions[i])) for i in penalised])

    @torch.inference_mode()
    def choose(self, logits: Tensor, packed: Tensor, slots: Tensor, variant: Variant) -> DeviceChoice:
        """Choose. No shape depends on a value on the device, and nothing waits for the host.

        Args:
            logits: the model's [rows, vocab] float32, contiguous; may be changed.
            packed: [rows, WIDTH] int32, contiguous, what `encode` wrote.
            slots: [rows] int32, contiguous.
            variant: what at least one row needs. The first call with penalties makes the tables.
        """
        asked = _columns(packed)
        numbers = asked.view(torch.float32)
        inputs = SampleInputs(
            temperature=numbers[Word.TEMPERATURE],
            top_k=asked[Word.TOP_K],
            top_p=numbers[Word.TOP_P],
            min_p=numbers[Word.MIN_P],
            seed=_seeds(packed),
            sample=asked[Word.SAMPLE],
            position=asked[Word.POSITION],
            with_cuts=variant.with_cuts,
        )
        model = logits
        if variant.with_penalties:
            if variant.num_top is not None:
                model = logits.clone()  # its log-probabilities are those of the untouched logits
            penalties = (numbers[word] for word in (Word.REPETITION, Word.PRESENCE, Word.FREQUENCY))
            self._kernels.penalties(logits, slots, self._used.tables, PenaltyInputs(*penalties))
        tokens = self._kernels.sample(logits, inputs)
        if variant.with_penalties:
            counted = tokens.masked_fill(asked[Word.COUNTS] == 0, NO_TOKEN)
            self._kernels.count_tokens(self._used.tables, slots, counted)
        words = [tokens.int()[:, None]]
        if variant.num_top is not None:
            num_top = min(variant.num_top, self._vocab_size)
            chosen, top_ids, top_logprobs = self._kernels.token_logprobs(model, tokens, num_top)
            words += [chosen.view(torch.int32)[:, None], top_ids.int(), top_logprobs.view(torch.int32)]
        return DeviceChoice(tokens.clamp(min=0), torch.cat(words, 1))

    def draws(self, rows: Sequence[SampleRow], words: NDArray[np.int32]) -> list[RowDraws]:
        """What each row gave, as `Sampler.sample` tells it; `words`: `DeviceChoice.words` on the host, [rows, width].

        A row in which penalties made +inf of a finite score, which takes one above 3e36, is blamed on the model.
        """
        chosen = Chosen.of(words, [row.num_logprobs for row in rows])
        return [
            RowDraws(
                chosen.tokens[i : i + 1],
                _UNASKED,
                model=None if chosen.models is None or row.num_logprobs is None else chosen.models[i],
                fault=None if token >= 0 else _fault(row, token),
            )
            for i, (row, token) in enumerate(zip(rows, chosen.tokens.tolist(), strict=True))
        ]

    def release(self, slot: int) -> None:
        """The slot's sequence is over or another one, or a token that was chosen for it here is not to count.

        What the sequence has used is sent anew when it is next encoded. A slot that was never met is not an error.
        """
        self._used.forget(slot)

    def _compile(self, chain: tuple[Step, ...]) -> "_Compiled | None":
        fused = fuse(chain)
        return None if fused is None else _Compiled(fused, chain_words(fused, self._vocab_size))

    def _compiled_of(self, row: SampleRow) -> "_Compiled":
        compiled = self._compiled.of(row.chain)
        assert compiled is not None, "the row is not one that this sampler takes"
        return compiled


def _columns(packed: Tensor) -> Tensor:
    """[WIDTH, rows]; each word's rows are contiguous and begin at 16 bytes, for which kernels are specialised."""
    num_rows, width = packed.shape
    columns = packed.new_empty(width, -(-num_rows // 4) * 4)[:, :num_rows]
    return columns.copy_(packed.t())


def _seeds(packed: Tensor) -> Tensor:
    """[rows] int64. A copy even of a single row, whose words may begin where no int64 can."""
    words = packed[:, Word.SEED : Word.SEED + 2].clone(memory_format=torch.contiguous_format)
    return words.view(torch.int64)[:, 0]


@dataclass(frozen=True, slots=True)
class _Compiled:
    chain: FusedChain
    words: NDArray[np.int32]


def _is_greedy(row: SampleRow) -> bool:
    return isinstance(row.draw, BestTokens)


def _sample_of(row: SampleRow) -> int:
    return row.draw.samples[0] if isinstance(row.draw, SampledTokens) else 0


def _fault(row: SampleRow, code: int) -> str:
    return MODEL_NOT_FINITE if code == NOT_FINITE else nothing_left(row.chain)
