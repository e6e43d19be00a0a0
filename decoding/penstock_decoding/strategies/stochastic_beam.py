"""Stochastic beam search: `width` different answers, an exact sample without replacement from the processed model.

Each partial answer has a log-probability phi and a perturbed one G, which is phi plus Gumbel noise. The noise is drawn
from the top: the prompt's G freely, and below it that of each continuation on condition that the largest of them is
their parent's. So a partial answer's G is the largest of all complete answers it leads to, and keeping the `width`
largest at each step finds the complete answers with the largest G of all that there are: the Gumbel top-k sample. The
first of them alone is an ordinary sample, and with any width the first n are the answers of width n.

Invariant: everything above kappa, the largest G ever dropped, is kept, and nothing below it: the best continuation of a
kept row has its G, so what stays open never falls. Kappa is therefore the largest of the complete answers that are not
returned, though none of them was completed. (Where a row comes to nothing, for want of a token, others take its place
if there are any above kappa. There can then be fewer answers, but their chances to be included stay right.)

Source: Kool, van Hoof, Welling, "Stochastic Beams and Where to Find Them" (2019), section 4 and algorithm 1.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import NO_TOKEN, Perturbed
from penstock_decoding.errors import ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.search_tree import ROOT, SearchTree
from penstock_decoding.strategies.settling import Hypothesis, Settling
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule

MAX_WIDTH = 1024


@dataclass(frozen=True, slots=True)
class StochasticBeamParams:
    """`width`: how many different answers are searched for; `n` of them, the first, are returned: all unless given."""

    width: int = field(metadata={"minimum": 1, "maximum": MAX_WIDTH})
    n: int | None = field(default=None, metadata={"minimum": 1, "maximum": MAX_WIDTH})

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise ParameterError("width", f"must be between 1 and {MAX_WIDTH}")
        if self.n is None:
            object.__setattr__(self, "n", self.width)
        elif not 1 <= self.n <= self.width:
            raise ParameterError("n", f"must be between 1 and the width, {self.width}")


# An answer's way so far. `parent`: the live row that it continues, -1 if it was complete before this step; `node`: -1
# before it has one.
_PLACE = np.dtype(
    [
        ("parent", np.int64),
        ("token", np.int64),
        ("logprob", np.float64),
        ("perturbed", np.float64),
        ("finish", np.int64),
        ("node", np.int64),
    ]
)

Places = NDArray[np.void]


class StochasticBeam:
    """One search. Live rows stand in the order of their G, largest first, and draw by their place in it."""

    Params = StochasticBeamParams

    def __init__(self, params: StochasticBeamParams) -> None:
        assert params.n is not None, "the parameters are complete once they are made"
        self.max_live = params.width
        self._width = params.width
        self._n = params.n
        self._tree = SearchTree()
        self._settling = Settling(params.n)
        # The prompt's G is free: given a value, the answers' chances to be among the best would be others.
        self._live = np.array([(-1, NO_TOKEN, 0.0, np.nan, Finish.OPEN, ROOT)], _PLACE)
        self._complete = np.zeros(0, _PLACE)
        self._kappa = -np.inf

    def draw(self, live: Live, stop: StopRule) -> Perturbed:
        # One more than can be kept, so that the best one dropped is known.
        return Perturbed(self._width + 1, self._live["logprob"], self._live["perturbed"], self._kappa)

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        places = np.concatenate((self._complete, self._continued(drawn, stop, live)))
        places = places[np.argsort(-places["perturbed"], kind="stable")]
        kept, dropped = places[: self._width], places[self._width :]
        if len(dropped):
            self._kappa = max(self._kappa, float(dropped["perturbed"][0]))
        is_new = kept["parent"] >= 0
        kept["node"][is_new] = self._tree.grow(self._live["node"][kept["parent"][is_new]], kept["token"][is_new])
        self._tree.release(np.concatenate((self._live["node"], dropped["node"][dropped["node"] >= 0])))
        branches = kept[is_new]
        kept["parent"] = -1
        is_open = kept["finish"] == Finish.OPEN
        self._live, self._complete = kept[is_open], kept[~is_open]
        if len(self._live):
            settled = self._settling.growth(self._tree)
        else:
            settled = self._settling.rest(self._tree, self._answers())
        return Branches(
            parent=branches["parent"],
            token=branches["token"],
            choice=np.full(len(branches), -1, np.int64),
            finish=branches["finish"],
            node=branches["node"],
            settled=settled,
            forgotten=self._tree.forgotten(),
        )

    def drop(self, choice: int) -> list[int]:
        return list(range(len(self._live))) if self._settling.drop(choice) else []

    def _continued(self, drawn: Drawn, stop: StopRule, live: Live) -> Places:
        """Every continuation drawn."""
        assert drawn.perturbed is not None, "these tokens were not drawn as asked"
        row, column = np.nonzero(drawn.perturbed > -np.inf)
        places = np.zeros(len(row), _PLACE)
        places["parent"], places["token"], places["node"] = row, drawn.tokens[row, column], -1
        places["logprob"] = self._live["logprob"][row] + drawn.logprobs[row, column]
        places["perturbed"] = drawn.perturbed[row, column]
        places["finish"] = stop.finishes(places["token"], live.num_generated + 1)
        return places

    def _answers(self) -> list[Hypothesis]:
        """The first n that are complete, with their chances to be among the first n."""
        first, others = self._complete[: self._n], self._complete[self._n :]
        kappa = float(others["perturbed"][0]) if len(others) else self._kappa
        # 1 - exp(-exp(phi - kappa)); the bound only keeps exp in range, where the result has long been 1.
        chance = -np.expm1(-np.exp(np.minimum(first["logprob"] - kappa, 700.0)))
        return [
            Hypothesis(int(place["node"]), Finish(place["finish"]), float(place["logprob"]), float(chance[i]))
            for i, place in enumerate(first)
        ]
