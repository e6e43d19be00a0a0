"""Sampling: each answer draws its next token from the processed distribution."""

from dataclasses import dataclass

from penstock_decoding.errors import ParameterError
from penstock_decoding.strategies.answers import IndependentAnswers
from penstock_decoding.strategy import Branches, Drawn, Live, Sampled, StopRule


@dataclass(frozen=True, slots=True)
class SampleParams:
    """`n`: independent answers, drawn with sample indices 0 to n-1."""

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ParameterError("n", "must be at least 1")


class Sample:
    """n independent samples."""

    Params = SampleParams

    def __init__(self, params: SampleParams) -> None:
        self.max_live = params.n
        self._answers = IndependentAnswers(params.n)

    def draw(self, num_rows: int) -> Sampled:
        return Sampled(self._answers.by_row())

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        return self._answers.advance(live, drawn, stop)

    def drop(self, choice: int) -> list[int]:
        return self._answers.drop(choice)
