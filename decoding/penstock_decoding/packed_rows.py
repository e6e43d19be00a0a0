"""What rows are asked for and what they gave, as int32 words: one copy to the device, one back.

Floats are words by their bits. Words of zero are a row that takes its best token and counts nothing: padding.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.fusion import FusedChain
from penstock_decoding.sample_row import RowLogprobs


class Word(enum.IntEnum):
    """The place of each number in what a row is asked for; a seed has two words, the low one first."""

    SEED = 0  # at an even place, so that a row's seed is also one aligned int64
    TEMPERATURE = 2
    TOP_K = 3
    TOP_P = 4
    MIN_P = 5
    SAMPLE = 6
    POSITION = 7
    REPETITION = 8
    PRESENCE = 9
    FREQUENCY = 10
    COUNTS = 11  # 1: the token that is chosen counts for the penalties of later ones


WIDTH = 12

Words = NDArray[np.int32]


def chain_words(chain: FusedChain, vocab_size: int) -> Words:
    """[WIDTH] what is the same for all rows of this chain; the others are 0."""
    words = np.zeros(WIDTH, np.int32)
    floats = words.view(np.float32)
    floats[Word.TEMPERATURE] = chain.temperature
    floats[Word.TOP_P] = chain.top_p
    floats[Word.MIN_P] = chain.min_p
    floats[Word.REPETITION] = chain.repetition
    floats[Word.PRESENCE] = chain.presence
    floats[Word.FREQUENCY] = chain.frequency
    words[Word.TOP_K] = chain.top_k if chain.top_k < vocab_size else 0
    words[Word.COUNTS] = chain.penalises
    return words


@dataclass(frozen=True, slots=True)
class Chosen:
    """What rows gave, on the host.

    tokens: [rows] int64, negative where a row failed. models: [rows] the model's log-probabilities, of the token and of
    the likeliest ones, as many as were looked for; None where none were.
    """

    tokens: NDArray[np.int64]
    models: list[RowLogprobs] | None

    @classmethod
    def of(cls, words: Words, num_tops: Sequence[int | None]) -> "Chosen":
        """From words [rows, 1], the tokens, or [rows, 2 + 2 k]: token, its log-probability, k ids, k log-probabilities.

        `num_tops`: of the k likeliest tokens, how many each row asks for.
        """
        words = np.ascontiguousarray(words)
        tokens, width = words[:, 0].astype(np.int64), words.shape[1]
        if width == 1:
            return cls(tokens, None)
        middle = 1 + width // 2
        floats = words.view(np.float32)
        parts = floats[:, 1].tolist(), words[:, 2:middle].tolist(), floats[:, middle:].tolist(), num_tops
        models = [
            RowLogprobs((own,), tuple(zip(ids[: num or 0], logprobs[: num or 0], strict=True)))
            for own, ids, logprobs, num in zip(*parts, strict=True)
        ]
        return cls(tokens, models)
