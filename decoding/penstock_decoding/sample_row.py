"""`SampleRow`: what one row of scores is asked for, and `RowDraws`: what it gave."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import RowDraw
from penstock_decoding.params import Step
from penstock_decoding.processor import Row


@dataclass(frozen=True, slots=True)
class SampleRow:
    """What one row of scores is asked for.

    `num_logprobs`, `num_processed_logprobs`, `chain_trace`: as in `DecodingParams`.
    """

    row: Row
    chain: tuple[Step, ...]
    draw: RowDraw
    num_logprobs: int | None = None
    num_processed_logprobs: int | None = None
    chain_trace: bool = False


@dataclass(frozen=True, slots=True)
class RowLogprobs:
    """Log-probabilities of one row: of each token drawn, and (token id, log-probability) of the likeliest ones."""

    chosen: tuple[float, ...]
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class StepTrace:
    """What one step of the chain did to one row's distribution.

    `kept_count`: the tokens left after it, and `kept_mass`: the probability that those had before. Entropies in nats.
    """

    name: str
    kept_mass: float
    kept_count: int
    entropy_before: float
    entropy_after: float


@dataclass(frozen=True, slots=True)
class RowDraws:
    """What one row gave, each [draws].

    `logprobs`: float32, processed, NaN unless the draw asked for them; `perturbed`: float64, only for
    `PerturbedTokens`. `model`: of the untouched logits, and `processed`: of the chain's result; None unless asked.
    `trace`: the steps of the chain, in order; None unless asked.
    `fault`: why the tokens mean nothing: a processor broke down, the scores held NaN or +inf, or no token was left to
    a draw that cannot tell so by a log-probability of -inf; None if all is well.
    """

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    perturbed: NDArray[np.float64] | None = None
    model: RowLogprobs | None = None
    processed: RowLogprobs | None = None
    trace: tuple[StepTrace, ...] | None = None
    fault: str | None = None

    @property
    def is_valid(self) -> bool:
        """Whether the tokens mean something."""
        return self.fault is None
