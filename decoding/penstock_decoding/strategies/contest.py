"""`Contest`: independent answers of which the best few are returned, and nothing before all have ended.

The best are those with the highest mean log-probability per token, of the processed distribution that they were drawn
from, the token that ended them included; of equal ones the earlier. Each is token for token the answer that would be
returned if all were. An answer for which no token was left is none.

Source: `best_of` in OpenAI's completions API ("the one with the highest log probability per token").
"""

import numpy as np

from penstock_decoding.finish import Finish
from penstock_decoding.strategies.answers import IndependentAnswers
from penstock_decoding.strategies.search_tree import ROOT, SearchTree
from penstock_decoding.strategies.settling import Hypothesis, Settling
from penstock_decoding.strategy import Branches, Drawn, Live, StopRule


class Contest:
    """`num_drawn` answers, of which n are returned, best first."""

    def __init__(self, n: int, num_drawn: int) -> None:
        self._n = n
        self._answers = IndependentAnswers(num_drawn)
        self._tree = SearchTree()
        self._settling = Settling(n)
        # By answer: its last node, and its log-probability so far.
        self._nodes = np.full(num_drawn, ROOT, np.int64)
        self._logprobs = np.zeros(num_drawn)
        self._ended: list[tuple[int, Hypothesis]] = []

    def by_row(self) -> tuple[tuple[int, ...], ...]:
        """For each live row the answers it carries."""
        return self._answers.by_row()

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        """One token for every open answer; `drawn` holds them in the order of `by_row`, with log-probabilities."""
        step = self._answers.advance(live, drawn, stop)
        logprobs = drawn.logprobs.reshape(-1)
        goes_on = logprobs > -np.inf
        for answer in step.choice[~goes_on].tolist():
            self._answers.drop(answer)
        before = np.unique(self._nodes[step.choice])  # before the first token all stand on the root
        answer, token, finish = step.choice[goes_on], step.token[goes_on], step.finish[goes_on]
        node = self._tree.grow(self._nodes[answer], token)
        self._tree.release(before)
        self._nodes[answer] = node
        self._logprobs[answer] += logprobs[goes_on]
        for ended, why in zip(answer[finish != Finish.OPEN].tolist(), finish[finish != Finish.OPEN], strict=True):
            mean = float(self._logprobs[ended]) / (live.num_generated + 1)
            self._ended.append((ended, Hypothesis(int(self._nodes[ended]), Finish(why), mean)))
        is_over = not (finish == Finish.OPEN).any()
        return Branches(
            parent=step.parent[goes_on],
            token=token,
            choice=np.full(len(node), -1, np.int64),
            finish=finish,
            node=node,
            settled=self._settling.rest(self._tree, self._best()) if is_over else None,
            forgotten=self._tree.forgotten(),
        )

    def drop(self, choice: int) -> list[int]:
        """An answer is no longer wanted; without any that is, every live row ends."""
        return list(range(len(self.by_row()))) if self._settling.drop(choice) else []

    def _best(self) -> list[Hypothesis]:
        ranked = sorted(self._ended, key=lambda ended: (-ended[1].score, ended[0]))
        return [hypothesis for _, hypothesis in ranked[: self._n]]
