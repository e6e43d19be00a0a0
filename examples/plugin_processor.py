"""A processor of your own: a watermark, which whoever has the key can find in a text and nobody sees.

    penstock serve demo --plugin examples/plugin_processor.py

A request asks for it in its chain: {"decoding": {"chain": [{"watermark": {"key": 42}}]}}. At each step a share `gamma`
of the vocabulary, chosen by the key and the token before, is green, and green tokens get `delta` on their scores. A
text of the model's own has green tokens by chance; a marked one has too many, and `z_score` counts them.

    python examples/plugin_processor.py KEY TOKEN_IDS...

prints the z-score of a list of token ids: above 4, chance alone would do it once in 30 000 texts.

Source: Kirchenbauer et al., "A Watermark for Large Language Models" (2023), algorithm 2 and equation 3.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.tensors import RowSelection

if TYPE_CHECKING:
    from torch import Tensor

GAMMA = 0.25


def is_green(key: int, before: int, token: int, gamma: float) -> bool:
    """Whether a token is green after another one."""
    return bool(green_tokens(key, before, token + 1, gamma)[token])


def green_tokens(key: int, before: int, vocab_size: int, gamma: float) -> NDArray[np.bool_]:
    """Which tokens are green after `before`, [vocab]. A larger vocabulary begins with the same ones."""
    generator = np.random.Generator(np.random.Philox(key=[key, before]))
    return generator.random(vocab_size, np.float32) < gamma


def z_score(tokens: Sequence[int], key: int, gamma: float = GAMMA) -> float:
    """By how many standard deviations a text has more green tokens than by chance. Each pair of tokens counts once:
    a text that repeats itself would repeat its green tokens."""
    pairs = set(pairwise(tokens))
    if not pairs:
        return 0.0
    num_green = sum(is_green(key, before, token, gamma) for before, token in pairs)
    return (num_green - gamma * len(pairs)) / math.sqrt(len(pairs) * gamma * (1 - gamma))


@dataclass(frozen=True, slots=True)
class WatermarkParams:
    """`key`: the secret, from 0 to 2**63 - 1; `gamma`: the green share; `delta`: what is added to green scores."""

    key: int
    gamma: float = GAMMA
    delta: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.key < 2**63:
            raise ParameterError("key", "must be between 0 and 2**63 - 1")
        if not 0 < self.gamma < 1:
            raise ParameterError("gamma", "must be between 0 and 1")
        if not 0 <= self.delta <= 20:
            raise ParameterError("delta", "must be between 0 and 20")


class Watermark:
    """Makes green tokens likelier. It looks at the last token alone, so there is nothing to remember."""

    name = "watermark"
    Params = WatermarkParams

    def plan(self, asks: Sequence[Ask[WatermarkParams]]) -> "WatermarkPlan":
        return WatermarkPlan([(ask.row.index, (*ask.row.prompt, *ask.row.output)[-1], ask.params) for ask in asks])


class WatermarkPlan:
    """For each row its index, the token before, and the parameters."""

    def __init__(self, rows: Sequence[tuple[int, int, WatermarkParams]]) -> None:
        self._rows = rows

    def apply(self, scores: "Tensor") -> None:
        vocab_size = scores.shape[-1]
        bonus = np.zeros((len(self._rows), vocab_size), np.float32)
        for place, (_, before, params) in enumerate(self._rows):
            bonus[place, green_tokens(params.key, before, vocab_size, params.gamma)] = params.delta
        rows = RowSelection([index for index, _, _ in self._rows])
        rows.put(scores, rows.take(scores).add_(scores.new_tensor(bonus)))


if __name__ == "__main__":
    print(f"{z_score([int(token) for token in sys.argv[2:]], key=int(sys.argv[1])):.2f}")
