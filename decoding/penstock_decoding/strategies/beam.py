"""Beam search, plain and diverse: keeps the `width` likeliest beginnings and returns the best complete answers.

Which candidates go on, which complete hypotheses are kept and when the search is over is transformers' rule, token for
token. With groups, each group searches for itself, and a token that an earlier group has just chosen costs the later
ones `diversity_penalty` each time; what it cost stays in the score, as in transformers until its version 4. An answer
that several groups find is returned once.

Source: Vijayakumar et al., "Diverse Beam Search" (2018), section 4, for the groups, with Hamming diversity.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import Best
from penstock_decoding.errors import ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.beam_pool import BeamPool, EarlyStopping
from penstock_decoding.strategies.search_tree import ROOT, SearchTree
from penstock_decoding.strategies.settling import Hypothesis, Settling
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule

MAX_WIDTH = 4096


@dataclass(frozen=True, slots=True)
class BeamParams:
    """`width`: live hypotheses; `n` of them, the best, are returned.

    `length_penalty`: scores are divided by the length to its power. `early_stopping`: when to stop once `width`
    hypotheses are complete: at once (true), when the live ones would not beat them if they ended now (false), or could
    not at any length ("never"). `groups`: how many the width is divided into; `diversity_penalty`: see above.
    """

    width: int = field(metadata={"minimum": 1, "maximum": MAX_WIDTH})
    n: int = field(default=1, metadata={"minimum": 1, "maximum": MAX_WIDTH})
    length_penalty: float = field(default=1.0, metadata={"minimum": -10, "maximum": 10})
    early_stopping: EarlyStopping = False
    groups: int = field(default=1, metadata={"minimum": 1, "maximum": MAX_WIDTH})
    diversity_penalty: float = field(default=0.0, metadata={"minimum": 0, "maximum": 100})

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise ParameterError("width", f"must be between 1 and {MAX_WIDTH}")
        if not 1 <= self.n <= self.width:
            raise ParameterError("n", f"must be between 1 and the width, {self.width}")
        if not -10 <= self.length_penalty <= 10:
            raise ParameterError("length_penalty", "must be between -10 and 10")
        if self.groups < 1 or self.width % self.groups:
            raise ParameterError("groups", f"must divide the width, {self.width}")
        if not 0 <= self.diversity_penalty <= 100:
            raise ParameterError("diversity_penalty", "must be between 0 and 100")
        if self.groups == 1 and self.diversity_penalty:
            raise ParameterError("diversity_penalty", "needs groups to be at least 2")


@dataclass(frozen=True, slots=True)
class _Step:
    """One group's choice: candidates that go on and candidates that are complete, each best first."""

    parent: NDArray[np.int64]
    token: NDArray[np.int64]
    logprob: NDArray[np.float64]
    finish: NDArray[np.int64]

    def only(self, kept: NDArray[np.bool_]) -> "_Step":
        return _Step(self.parent[kept], self.token[kept], self.logprob[kept], self.finish[kept])


class Beam:
    """One search. Live rows stand group by group, each group's best first."""

    Params = BeamParams

    def __init__(self, params: BeamParams) -> None:
        self.max_live = params.width
        self._params = params
        self._group_width = params.width // params.groups
        self._tree = SearchTree()
        self._settling = Settling(params.n)
        self._pools = [
            BeamPool(self._group_width, params.n, params.length_penalty, params.early_stopping)
            for _ in range(params.groups)
        ]
        # The live rows of each group; the prompt's row is every group's.
        self._rows = [np.zeros(1, np.int64) for _ in range(params.groups)]
        self._nodes = np.asarray([ROOT], np.int64)
        self._logprobs = np.zeros(1)

    def draw(self, live: Live, stop: StopRule) -> Best:
        # The other groups can have made at most as many tokens dearer as they have beams.
        count = self._num_candidates(stop) + self._params.width - self._group_width
        # Groups choose each for itself: what is best of all rows together says nothing then.
        return Best(count, logprobs=self._logprobs if len(self._pools) == 1 else None)

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        length = live.num_generated + 1
        totals = self._logprobs[:, None] + drawn.logprobs
        going, complete = [], []
        chosen: list[NDArray[np.int64]] = []
        for pool, rows in zip(self._pools, self._rows, strict=True):
            if pool.is_done:
                going.append(_NOTHING)
                complete.append(_NOTHING)
                continue
            best = self._best_candidates(rows, drawn.tokens, totals, chosen, stop, length)
            is_open = best.finish == Finish.OPEN
            within = np.arange(len(is_open)) < self._group_width
            complete.append(best.only(~is_open & within))
            going.append(best.only(is_open & (np.cumsum(is_open) <= self._group_width)))
            chosen.append(going[-1].token)
        return self._branches(going, complete, stop, length)

    def drop(self, choice: int) -> list[int]:
        return list(range(len(self._nodes))) if self._settling.drop(choice) else []

    def _num_candidates(self, stop: StopRule) -> int:
        # Enough for a group to go on at full width though its likeliest candidates are complete.
        return max(2, 1 + len(stop.token_ids)) * self._group_width

    def _best_candidates(
        self,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        totals: NDArray[np.float64],
        chosen: Sequence[NDArray[np.int64]],
        stop: StopRule,
        length: int,
    ) -> _Step:
        own_tokens, own = tokens[rows].reshape(-1), totals[rows].reshape(-1)
        if chosen and self._params.diversity_penalty:
            dear, count = np.unique(np.concatenate(chosen), return_counts=True)
            if len(dear):
                place = np.searchsorted(dear, own_tokens).clip(max=len(dear) - 1)
                own = own - self._params.diversity_penalty * np.where(dear[place] == own_tokens, count[place], 0)
        order = _best_first(own, self._num_candidates(stop))
        order = order[own[order] > -np.inf]
        parent = np.repeat(rows, tokens.shape[1])[order]
        return _Step(parent, own_tokens[order], own[order], stop.finishes(own_tokens[order], length))

    def _branches(self, going: list[_Step], complete: list[_Step], stop: StopRule, length: int) -> Branches:
        steps = [*going, *complete]
        parent = np.concatenate([step.parent for step in steps])
        token = np.concatenate([step.token for step in steps])
        finish = np.concatenate([step.finish for step in steps])
        node = self._tree.grow(self._nodes[parent], token)
        parts = np.split(node, np.cumsum([len(step.token) for step in steps])[:-1])
        is_kept = np.ones(len(node), np.bool_)
        place = 0
        for pool, on, ended, ended_nodes in zip(self._pools, going, complete, parts[len(going) :], strict=True):
            if not pool.is_done:
                pool.add(ended_nodes, ended.logprob, ended.finish, length, self._tree)
                pool.judge(float(on.logprob[0]) if len(on.logprob) else None, length, stop.max_tokens)
            if pool.is_done:
                is_kept[place : place + len(on.token)] = False
            place += len(on.token)
        is_live = is_kept & (finish == Finish.OPEN)
        self._tree.release(np.concatenate((self._nodes, node[~is_kept])))
        self._keep(going, node[is_live], is_live)
        if len(self._nodes):
            settled = self._settling.growth(self._tree)
        else:
            settled = self._settling.rest(self._tree, self._best_answers())
        return Branches(
            parent=parent[is_kept],
            token=token[is_kept],
            choice=np.full(int(is_kept.sum()), -1, np.int64),
            finish=finish[is_kept],
            node=node[is_kept],
            settled=settled,
            forgotten=self._tree.forgotten(),
        )

    def _best_answers(self) -> list[Hypothesis]:
        ends = sorted((end for pool in self._pools for end in pool.hypotheses()), key=lambda end: -end.score)
        if len(self._pools) > 1:
            # Groups may have found the same answer, at the price that each had to pay for it.
            cheapest: dict[bytes, Hypothesis] = {}
            for end in ends:
                cheapest.setdefault(self._tree.tokens(self._tree.path(end.node)).tobytes(), end)
            ends = list(cheapest.values())
        return ends[: self._params.n]

    def _keep(self, going: list[_Step], nodes: NDArray[np.int64], is_live: NDArray[np.bool_]) -> None:
        logprob = np.concatenate([on.logprob for on in going])
        self._nodes = nodes
        self._logprobs = logprob[is_live[: len(logprob)]]
        sizes = [0 if pool.is_done else len(on.token) for pool, on in zip(self._pools, going, strict=True)]
        self._rows = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def _best_first(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The places of the `count` largest values, largest first; of equal ones the earlier."""
    if len(values) > 4 * count:
        # Everything that is at least the count-th largest, in the order of its place, so that ties stay in order.
        floor = np.partition(values, len(values) - count)[len(values) - count]
        places = np.flatnonzero(values >= floor)
        return places[np.argsort(-values[places], kind="stable")[:count]]
    return np.argsort(-values, kind="stable")[:count]


_NOTHING = _Step(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
