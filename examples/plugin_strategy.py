"""A strategy of your own: n answers that all begin differently.

    penstock serve demo --plugin examples/plugin_strategy.py

A request asks for it by name: {"n": 4, "decoding": {"strategy": "distinct_openings"}}. Independent samples of a sure
model often begin alike. Here the first tokens are drawn together and without replacement (Gumbel top-k: Kool, van
Hoof, Welling, 2019), likelier ones more often and first; from there on each answer is sampled by itself. The first
answer alone is an ordinary sample.
"""

import math
from dataclasses import dataclass

import numpy as np

from penstock_decoding.draws import Draw, Perturbed, Sampled
from penstock_decoding.errors import NoAnswer, ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule


@dataclass(frozen=True, slots=True)
class DistinctOpeningsParams:
    """`n`: answers, no two of which share their first token; fewer if fewer tokens are left to begin with."""

    n: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 128:
            raise ParameterError("n", "must be between 1 and 128")


class DistinctOpenings:
    """The first step forks the prompt's row into one for each opening."""

    name = "distinct_openings"
    Params = DistinctOpeningsParams

    def __init__(self, params: DistinctOpeningsParams) -> None:
        self.max_live = params.n
        self._num_openings = params.n
        self._has_begun = False
        # The answers that go on, in the order of their rows; before the first step, those that are wanted.
        self._open = list(range(params.n))

    def draw(self, live: Live, stop: StopRule) -> Draw:
        if self._has_begun:
            return Sampled(tuple((choice,) for choice in self._open))
        return Perturbed(self._num_openings, logprobs=np.zeros(1), peaks=np.full(1, math.nan))

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        if self._has_begun:
            choice = np.asarray(self._open, np.int64)
            token = drawn.tokens[:, 0]
            parent = np.arange(len(choice))
        else:
            # A token that does not exist stands last, as -1: then there are fewer openings than answers.
            num_openings = int((drawn.tokens[0] >= 0).sum())
            choice = np.asarray([wanted for wanted in self._open if wanted < num_openings], np.int64)
            if not len(choice):
                raise NoAnswer("no token was left to begin an answer with")
            token = drawn.tokens[0, choice]
            parent = np.zeros(len(choice), np.int64)
        finish = stop.finishes(token, live.num_generated + 1)
        self._has_begun = True
        self._open = choice[finish == Finish.OPEN].tolist()
        return Branches(parent=parent, token=token, choice=choice, finish=finish)

    def drop(self, choice: int) -> list[int]:
        if choice not in self._open:
            return []
        row = self._open.index(choice)
        self._open.remove(choice)
        if self._has_begun:
            return [row]
        return [] if self._open else [0]
