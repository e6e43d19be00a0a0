"""Runs a strategy on known distributions without an engine, and holds it to what it tells about its nodes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import NO_TOKEN, Best
from penstock_decoding.finish import Finish
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule, Strategy

Tokens = tuple[int, ...]
# Log-probabilities [answers, vocab] of what follows these answers.
Rows = Callable[[list[Tokens]], NDArray[np.float32]]


@dataclass(slots=True)
class Told:
    """One answer as it was told: its tokens, the step in which each was, and how it ended."""

    tokens: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    finish: Finish = Finish.OPEN
    score: float = float("nan")


class SearchRun:
    """A search under way. `rows`: the answer so far of each live row; `has_repeated`: two were ever the same."""

    def __init__(self, strategy: Strategy, table: Rows, stop: StopRule) -> None:
        self.strategy, self.stop = strategy, stop
        self.rows: list[Tokens] = [()]
        self.answers: dict[int, Told] = {}
        self.num_steps = 0
        self.most_live = 1
        self.largest_node = 0
        self.has_repeated = False
        self._table = table
        self._at_node: dict[int, Tokens] = {}

    def step(self) -> Branches:
        """Draw, advance, and check what came: tokens that were drawn, nodes that are free, answers that were live."""
        live = Live(len(self.rows), self.num_steps)
        draw = self.strategy.draw(live, self.stop)
        assert isinstance(draw, Best)
        drawn = best_of(self._table(self.rows), draw.count, draw.named)
        branches = self.strategy.advance(live, drawn, self.stop)
        assert branches.node is not None
        self.num_steps += 1
        rows = []
        columns = (branches.parent, branches.token, branches.finish, branches.node)
        for parent, token, finish, node in zip(*(column.tolist() for column in columns), strict=True):
            assert token in drawn.tokens[parent]
            assert node not in self._at_node, "a node's number was given again before it was forgotten"
            self._at_node[node] = (*self.rows[parent], token)
            if finish == Finish.OPEN:
                rows.append(self._at_node[node])
        self.rows = rows
        self.has_repeated |= len(set(rows)) < len(rows)
        self.most_live = max(self.most_live, len(rows))
        self._hear(branches)
        for node in [] if branches.forgotten is None else branches.forgotten.tolist():
            # A node that was not a branch of ours may be one that never lived past its step.
            self._at_node.pop(node, None)
        self.largest_node = max([self.largest_node, *self._at_node])
        return branches

    def finish(self) -> dict[int, Told]:
        """All steps to the end."""
        while self.rows:
            self.step()
        return self.answers

    def _hear(self, branches: Branches) -> None:
        if branches.settled is None:
            return
        settled = branches.settled
        columns = (settled.choice, settled.token, settled.node, settled.finish, settled.score)
        for choice, token, node, finish, score in zip(*(column.tolist() for column in columns), strict=True):
            answer = self.answers.setdefault(choice, Told())
            assert answer.finish == Finish.OPEN, "an answer went on after its end"
            answer.tokens.append(token)
            answer.steps.append(self.num_steps)
            assert self._at_node[node] == tuple(answer.tokens), "the node is not that of the answer's token"
            if not np.isnan(score):
                assert finish != Finish.OPEN
                answer.finish, answer.score = Finish(finish), score


def best_of(logprobs: NDArray[np.float32], count: int, named: NDArray[np.int64] | None = None) -> Drawn:
    """What `Best(count, named)` draws from these rows."""
    tokens = np.argsort(-logprobs, axis=-1, kind="stable")[:, :count]
    tokens = tokens if named is None else np.concatenate((tokens, named), -1)
    drawn = np.where(tokens == NO_TOKEN, -np.inf, np.take_along_axis(logprobs, tokens.clip(min=0), -1))
    return Drawn(tokens, drawn.astype(np.float32))


def random_table(vocab_size: int, seed: int, spread: float = 1.5) -> Rows:
    """Log-probabilities that depend on the whole answer and on the seed, and on nothing else."""

    def row(answer: Tokens) -> NDArray[np.float32]:
        scores = np.random.default_rng([seed, len(answer), *answer]).normal(size=vocab_size) * spread
        return np.asarray(scores - np.log(np.exp(scores).sum()), np.float32)

    return lambda answers: np.stack([row(answer) for answer in answers])
