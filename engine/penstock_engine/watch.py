"""`Watch`: one request's search as whoever watches it is told: which nodes each step added, and which it gave up.

A node is a token and the node before it; node 0 is the prompt. A strategy gives the numbers of forgotten branches
again, a watch never does. Only requests that are watched have one.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from penstock_decoding.finish import Finish
from penstock_decoding.sample_row import RowDraws
from penstock_decoding.strategy import Branches
from penstock_engine.outputs import Fate, WatchedStep

PROMPT = 0


class Watch:
    """Follows the branches of one request from its first step on.

    Searches number their branches, and of those the tokens are kept until they are forgotten; answers that never share
    a token need no tree.
    """

    def __init__(self) -> None:
        self._num_nodes = 1
        self._live = [PROMPT]  # each live row's last node
        self._scores = [0.0]
        self._lost: list[int] = []  # live nodes whose answer the caller gave up since the last step
        self._by_branch: dict[int, int] = {}
        self._token_and_parent: dict[int, tuple[int, int]] = {}
        self._last_settled = PROMPT  # of answer 0

    def drop(self, rows: Iterable[int]) -> None:
        """These live rows end without the strategy's doing."""
        gone = set(rows)
        self._lost += [self._live[i] for i in sorted(gone)]
        self._live = [node for i, node in enumerate(self._live) if i not in gone]
        self._scores = [score for i, score in enumerate(self._scores) if i not in gone]

    def step(self, branches: Branches, drawn: Sequence[RowDraws]) -> WatchedStep:
        """What one step did; `drawn` for each live row, its processed log-probabilities among it."""
        columns = (branches.parent, branches.token, branches.finish)
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        node = range(self._num_nodes, self._num_nodes + len(rows))
        self._num_nodes += len(rows)
        parent = [self._live[row] for row, _, _ in rows]
        score = [self._scores[row] + _logprob(drawn[row], token) for row, token, _ in rows]
        fate = [Fate.LIVE if finish == Finish.OPEN else Fate.COMPLETE for _, _, finish in rows]
        settled = [(choice, own) for choice, own in zip(branches.choice.tolist(), node, strict=True) if choice >= 0]
        dropped, self._lost = self._lost, []
        if branches.node is not None:
            self._by_branch.update(zip(branches.node.tolist(), node, strict=True))
            self._token_and_parent.update(
                (own, (token, before)) for own, before, (_, token, _) in zip(node, parent, rows, strict=True)
            )
        if branches.settled is not None:
            told = zip(branches.settled.choice.tolist(), branches.settled.node.tolist(), strict=True)
            settled += [(choice, self._by_branch[branch]) for choice, branch in told if branch in self._by_branch]
        for branch in [] if branches.forgotten is None else branches.forgotten.tolist():
            # A search may give up what it has grown before it was ever a branch.
            own = self._by_branch.pop(branch, PROMPT)
            self._token_and_parent.pop(own, None)
            if own in node:
                fate[own - node.start] = Fate.DROPPED
            elif own != PROMPT:
                dropped.append(own)
        self._live = [own for own, (_, _, finish) in zip(node, rows, strict=True) if finish == Finish.OPEN]
        self._scores = [value for value, (_, _, finish) in zip(score, rows, strict=True) if finish == Finish.OPEN]
        self._last_settled = next((own for choice, own in reversed(settled) if choice == 0), self._last_settled)
        return WatchedStep(
            tuple(node),
            tuple(parent),
            tuple(token for _, token, _ in rows),
            tuple(score),
            tuple(fate),
            tuple(dropped),
            tuple(settled),
            None if branches.node is None else self._tentative(),
        )

    def _tentative(self) -> tuple[int, ...]:
        """The tokens of the best live hypothesis that are not settled."""
        if not self._live:
            return ()
        node = self._live[int(np.argmax(self._scores))]
        tokens = []
        while node != self._last_settled and node in self._token_and_parent:
            token, node = self._token_and_parent[node]
            tokens.append(token)
        return tuple(reversed(tokens))


def _logprob(row: RowDraws, token: int) -> float:
    """The token's processed log-probability: drawn with it, or else asked for beside it."""
    place = int(np.flatnonzero(row.tokens == token)[0])
    drawn = float(row.logprobs[place])
    return row.processed.chosen[place] if np.isnan(drawn) and row.processed is not None else drawn
