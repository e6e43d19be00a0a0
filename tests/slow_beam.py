"""Beam search read plainly: lists, whole answers, every candidate looked at. The oracle where nothing else is one.

Which candidates go on, which complete ones count and when it is over: transformers' `_beam_search`, against which this
reading is tested itself. Groups: Vijayakumar et al., "Diverse Beam Search" (2018), algorithm 1 with Hamming diversity;
as in transformers until its version 4 the penalty stays in the score. An answer that several groups find counts once.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]
# The processed log-probabilities [answers, vocab] of what follows these answers.
Table = Callable[[list[Tokens]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class SlowSearch:
    """All complete answers that were kept, as (score, tokens), best first.

    `margin`: the smallest difference, relative to the numbers compared, that decided anything. Where it is smaller than
    what rounding makes, another machine may rightly find other answers.
    """

    found: list[tuple[float, Tokens]]
    margin: float


def slow_beam(
    table: Table,
    *,
    width: int,
    stop: Iterable[int],
    max_tokens: int,
    min_tokens: int = 0,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    groups: int = 1,
    diversity_penalty: float = 0.0,
    n: int = 1,
) -> SlowSearch:
    """The search; `n` answers are wanted, which only the margin depends on."""
    stop, size, margins = set(stop), width // groups, [np.inf]
    live: list[list[tuple[float, Tokens]]] = [[(0.0, ())] for _ in range(groups)]
    pools: list[list[tuple[float, Tokens]]] = [[] for _ in range(groups)]
    is_done = [False] * groups

    def compare(a: float, b: float) -> None:
        margins.append(abs(a - b) / max(abs(a), abs(b), 1e-30))

    for length in range(1, max_tokens + 1):
        chosen: Counter[int] = Counter()
        for group in range(groups):
            if is_done[group]:
                continue
            candidates = []
            for (total, tokens), row in zip(live[group], table([t for _, t in live[group]]), strict=True):
                for token in np.flatnonzero(row > -np.inf).tolist():
                    value = total + float(row[token]) - diversity_penalty * chosen[token]
                    candidates.append((value, (*tokens, token)))
            candidates.sort(key=lambda candidate: -candidate[0])
            ends = [length == max_tokens or (t[-1] in stop and length > min_tokens) for _, t in candidates]
            going = [candidate for candidate, end in zip(candidates, ends, strict=True) if not end]
            if len(going) > size:
                compare(going[size - 1][0], going[size][0])
            if len(candidates) > size and (ends[size - 1] or ends[size]):
                compare(candidates[size - 1][0], candidates[size][0])
            complete = [candidate for candidate, end in zip(candidates[:size], ends[:size], strict=True) if end]
            scored = [(value / length**length_penalty, tokens) for value, tokens in complete]
            pool = sorted([*pools[group], *scored], key=lambda answer: -answer[0])
            if len(pool) > size:
                compare(pool[size - 1][0], pool[size][0])
            live[group], pools[group] = going[:size], pool[:size]
            chosen.update(tokens[-1] for _, tokens in live[group])
            if not going:
                is_done[group] = True
            elif len(pool) >= size:
                longest = max_tokens if early_stopping == "never" and length_penalty > 0 else length
                hoped, worst = going[0][0] / longest**length_penalty, pools[group][-1][0]
                is_done[group] = early_stopping is True or hoped <= worst
                if early_stopping is not True:
                    compare(hoped, worst)
    best: dict[Tokens, float] = {}
    for score, tokens in (answer for pool in pools for answer in pool):
        best[tokens] = max(score, best.get(tokens, -np.inf))
    found = sorted(((score, tokens) for tokens, score in best.items()), key=lambda answer: -answer[0])
    for (score, _), (later, _) in itertools.pairwise(found[: n + 1]):
        compare(score, later)
    return SlowSearch(found, min(margins))
