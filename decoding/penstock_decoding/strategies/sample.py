"""Sampling: each answer draws its next token from the processed distribution."""

from dataclasses import dataclass, field

from penstock_decoding.draws import Sampled
from penstock_decoding.errors import ParameterError
from penstock_decoding.strategies.answers import IndependentAnswers
from penstock_decoding.strategies.contest import Contest
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule


@dataclass(frozen=True, slots=True)
class SampleParams:
    """`n`: independent answers, drawn with sample indices 0 to n-1. `best_of`: if it is more, this many are drawn and
    the n likeliest per token are returned, all at the end."""

    n: int = field(default=1, metadata={"minimum": 1})
    best_of: int | None = field(default=None, metadata={"minimum": 1})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ParameterError("n", "must be at least 1")
        if self.best_of is not None and self.best_of < self.n:
            raise ParameterError("best_of", f"must be at least n, {self.n}")


class Sample:
    """n independent samples, or the best n of more."""

    Params = SampleParams

    def __init__(self, params: SampleParams) -> None:
        self.max_live = params.best_of or params.n
        self._is_contest = self.max_live > params.n
        self._answers = Contest(params.n, self.max_live) if self._is_contest else IndependentAnswers(params.n)

    @property
    def going_on(self) -> tuple[int, ...] | None:
        return self._answers.going_on if isinstance(self._answers, IndependentAnswers) else None

    def draw(self, live: Live, stop: StopRule) -> Sampled:
        return Sampled(self._answers.by_row(), with_logprobs=self._is_contest)

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        return self._answers.advance(live, drawn, stop)

    def drop(self, choice: int) -> list[int]:
        return self._answers.drop(choice)
