"""`Record`: a request's branches turned into its answers' tokens, with what was asked to be told beside each.

Answers that never share a token get theirs at once. A search settles tokens of earlier steps: their log-probabilities
are kept here, by the number that the strategy gave the branch, for as long as it may still name it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from penstock_decoding.finish import Finish
from penstock_decoding.sample_row import RowDraws, RowLogprobs
from penstock_decoding.strategy import Branches, Settled
from penstock_engine.outputs import StepTrace, TokenLogprobs, TokenOutput


class _Beside(NamedTuple):
    """What is told beside a token: log-probabilities, the model's own and processed ones, and the chain's steps."""

    logprobs: TokenLogprobs | None = None
    processed: TokenLogprobs | None = None
    trace: tuple[StepTrace, ...] | None = None


_NOT_ASKED = _Beside()


class Record:
    """What is told beside tokens that may be settled later, by node; empty unless the request asked for any."""

    def __init__(self) -> None:
        self._by_node: dict[int, _Beside] = {}

    @property
    def num_kept(self) -> int:
        """How many nodes something is kept of."""
        return len(self._by_node)

    def tokens(self, branches: Branches, drawn: Sequence[RowDraws]) -> tuple[TokenOutput, ...]:
        """What one step's branches give the answers."""
        outputs = _told_at_once(branches, drawn)
        if branches.node is not None and any(map(_is_asked, drawn)):
            nodes, parents, tokens = branches.node.tolist(), branches.parent.tolist(), branches.token.tolist()
            for node, parent, token in zip(nodes, parents, tokens, strict=True):
                self._by_node[node] = _beside(drawn[parent], token)
        if branches.settled is not None:
            outputs += self._told_late(branches.settled)
        if branches.forgotten is not None and self._by_node:
            for node in branches.forgotten.tolist():
                self._by_node.pop(node, None)
        return tuple(outputs)

    def _told_late(self, settled: Settled) -> list[TokenOutput]:
        columns = (settled.choice, settled.token, settled.node, settled.finish)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        outputs = []
        for i, (choice, token, node, finish) in enumerate(rows):
            beside = self._by_node.get(node, _NOT_ASKED)
            score, inclusion_probability = _number(settled.score[i]), _number(settled.inclusion_probability[i])
            outputs.append(
                TokenOutput(
                    choice,
                    token,
                    Finish(finish),
                    beside.logprobs,
                    beside.processed,
                    score=score,
                    inclusion_probability=inclusion_probability,
                    trace=beside.trace,
                )
            )
        return outputs


def told_going_on(choices: Sequence[int], tokens: Sequence[int], drawn: Sequence[RowDraws]) -> tuple[TokenOutput, ...]:
    """What one step gives answers none of which ends, each with the one token of its row."""
    outputs = []
    for choice, token, row in zip(choices, tokens, drawn, strict=True):
        beside = _beside(row, token)
        if beside is _NOT_ASKED:
            outputs.append(TokenOutput(choice, token, Finish.OPEN))
            continue
        outputs.append(TokenOutput(choice, token, Finish.OPEN, beside.logprobs, beside.processed, trace=beside.trace))
    return tuple(outputs)


def _told_at_once(branches: Branches, drawn: Sequence[RowDraws]) -> list[TokenOutput]:
    columns = (branches.parent, branches.token, branches.choice, branches.finish)
    outputs = []
    for parent, token, choice, finish in zip(*(column.tolist() for column in columns), strict=True):
        if choice >= 0:
            beside = _beside(drawn[parent], token)
            outputs.append(
                TokenOutput(choice, token, Finish(finish), beside.logprobs, beside.processed, trace=beside.trace)
            )
    return outputs


def _is_asked(row: RowDraws) -> bool:
    return row.model is not None or row.processed is not None or row.trace is not None


def _beside(row: RowDraws, token: int) -> _Beside:
    if not _is_asked(row):
        return _NOT_ASKED
    place = int(np.flatnonzero(row.tokens == token)[0])
    return _Beside(_at(row.model, place), _at(row.processed, place), row.trace)


def _at(logprobs: RowLogprobs | None, place: int) -> TokenLogprobs | None:
    return None if logprobs is None else TokenLogprobs(logprobs.chosen[place], logprobs.top)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
