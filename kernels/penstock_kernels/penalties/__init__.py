"""Penalties on tokens that were used already, from counts that stay on the device.

    s <- s / repetition if s > 0 else s * repetition    for tokens of prompt and answer
    s <- s - (presence + frequency * count)             for tokens of the answer, and how often they are in it

in this order (repetition: Keskar et al., "CTRL", 2019, section 4.1; the others are OpenAI's). What a sequence has used
is kept by its slot, so that nothing of it is sent again in a step.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

WORD_BITS = 32
LARGEST_COUNT = 32767


@dataclass(frozen=True, slots=True)
class UsedTokens:
    """What the sequences have used, by slot.

    in_prompt: [num_slots, ceil(vocab / 32)] int32: bit v % 32 of word v // 32 tells whether token v is in the prompt.
    counts: [num_slots, vocab] int16: how often token v is in the answer.
    """

    in_prompt: Tensor
    counts: Tensor


@dataclass(frozen=True, slots=True)
class PenaltyInputs:
    """What each row asks for: [rows] float32, contiguous.

    repetition 1, presence 0 and frequency 0 change nothing. Nor does repetition 0: a row of zeros is padding.
    """

    repetition: Tensor
    presence: Tensor
    frequency: Tensor


class Penalties(Protocol):
    """Penalises.

    Args:
        scores: [rows, vocab] float32, contiguous; changed in place. -inf stays -inf. Rows that ask for nothing keep
            their bits, and so do tokens that were not used.
        slots: [rows] int32, contiguous, whose tokens count; rows may share one.
        used: contiguous; not modified.

    Exact: every operation above rounds on its own, so that every implementation gives the same bits.
    """

    def __call__(self, scores: Tensor, slots: Tensor, used: UsedTokens, inputs: PenaltyInputs) -> None: ...


class CountTokens(Protocol):
    """Adds 1 to the count of tokens[i] in the answer of slots[i].

    Args:
        used: contiguous; its counts are changed in place. They end at `LARGEST_COUNT`.
        slots: [rows] int32, contiguous; none twice among rows with a token.
        tokens: [rows] int64, contiguous, below vocab; a negative one counts nothing.
    """

    def __call__(self, used: UsedTokens, slots: Tensor, tokens: Tensor) -> None: ...
