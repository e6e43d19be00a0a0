"""Greedy decoding: each token is the likeliest one of the processed distribution; ties go to the lowest token id."""

from dataclasses import dataclass, field

import numpy as np

from penstock_decoding.draws import Best
from penstock_decoding.errors import ParameterError
from penstock_decoding.strategies.answers import IndependentAnswers
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule


@dataclass(frozen=True, slots=True)
class GreedyParams:
    """`n`: answers, which are all the same: OpenAI's API allows it, and clients count on n of them."""

    n: int = field(default=1, metadata={"minimum": 1})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ParameterError("n", "must be at least 1")


class Greedy:
    """The likeliest token at each step."""

    Params = GreedyParams

    def __init__(self, params: GreedyParams) -> None:
        self.max_live = params.n
        self._answers = IndependentAnswers(params.n)

    @property
    def going_on(self) -> tuple[int, ...] | None:
        return self._answers.going_on

    def draw(self, live: Live, stop: StopRule) -> Best:
        return Best()

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        tokens = np.concatenate(
            [
                np.repeat(token, len(choices))
                for token, choices in zip(drawn.tokens, self._answers.by_row(), strict=True)
            ]
        )
        return self._answers.advance(live, Drawn(tokens, drawn.logprobs), stop)

    def drop(self, choice: int) -> list[int]:
        return self._answers.drop(choice)
