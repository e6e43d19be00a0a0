"""What a strategy may return, checked for plug-ins: a breach is told in words, and ends the request that it is about.

What is shipped is tested to keep the contract and is not checked at every step.
"""

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import NO_TOKEN, Best, Draw, Perturbed, Sampled
from penstock_decoding.errors import DecodingFault
from penstock_decoding.finish import Finish
from penstock_decoding.strategy import Branches, Drawn, Live, Settled, StopRule

MAX_LIVE = 4096
MAX_DRAWS = 4096
"""Most draws of one row: a row of a batch must not take the memory of all others."""

_FINISHES = np.asarray([int(finish) for finish in Finish], np.int64)


def check_max_live(called: str, max_live: object) -> None:
    """
    Raises:
        DecodingFault: this is no number of rows.
    """
    if not isinstance(max_live, int) or not 1 <= max_live <= MAX_LIVE:
        raise DecodingFault(f"{called} has a max_live of {max_live!r}; it must be between 1 and {MAX_LIVE}")


def check_draw(called: str, draw: Draw, num_rows: int, vocab_size: int) -> None:
    """Whether this can be drawn for so many live rows.

    Raises:
        DecodingFault: says why not.
    """
    told = _draw_breach(draw, num_rows, vocab_size)
    if told:
        raise DecodingFault(f"{called} {told}")


def _draw_breach(draw: Draw, num_rows: int, vocab_size: int) -> str | None:
    if isinstance(draw, Best):
        if not _is_count(draw.count, vocab_size):
            return f"asked for the {draw.count!r} best tokens of {vocab_size}"
        if draw.named is not None and not _is_integers(draw.named, 2, len(draw.named)):
            return "must name tokens as an array of integers, one row for each live row"
        if draw.named is not None and len(draw.named) != num_rows:
            return f"named tokens for {len(draw.named)} rows, but {num_rows} are live"
        if draw.named is not None and not _all_between(draw.named, NO_TOKEN, vocab_size - 1):
            return f"named a token outside the vocabulary of {vocab_size}"
        if draw.logprobs is not None and not _is_own(draw.logprobs, num_rows):
            return f"must give logprobs as float64 [{num_rows}], one for each live row"
        return None
    if isinstance(draw, Sampled):
        if not isinstance(draw.samples, tuple) or len(draw.samples) != num_rows:
            return f"must sample for each of the {num_rows} live rows"
        sizes = {len(samples) for samples in draw.samples}
        if len(sizes) > 1 or not _is_count(min(sizes), MAX_DRAWS):
            return f"must draw equally many samples for each row, between 1 and {MAX_DRAWS}"
        if not all(isinstance(s, int) and 0 <= s < 2**32 for samples in draw.samples for s in samples):
            return "must name samples by integers from 0 to 2**32 - 1"
        return None
    if isinstance(draw, Perturbed):
        if not _is_count(draw.count, MAX_DRAWS):
            return f"asked for {draw.count!r} perturbed tokens; at most {MAX_DRAWS} can be had"
        for values in (draw.logprobs, draw.peaks):
            if not _is_own(values, num_rows):
                return f"must give logprobs and peaks as float64 [{num_rows}], one for each live row"
        return None
    return f"must draw Best, Sampled or Perturbed, not {type(draw).__name__}"


def _is_own(values: object, num_rows: int) -> bool:
    """Whether this is a float64 number for each live row."""
    return isinstance(values, np.ndarray) and values.dtype == np.float64 and values.shape == (num_rows,)


class BranchContract:
    """What the branches of one search must keep to, step after step."""

    def __init__(self, called: str, num_answers: int, max_live: int, vocab_size: int) -> None:
        self._called = called
        self._num_answers = num_answers
        self._max_live = max_live
        self._vocab_size = vocab_size
        self._num_rows = 1
        self._is_open = np.ones(num_answers, np.bool_)
        self._num_ended = 0

    def check(self, branches: Branches, live: Live, drawn: Drawn, stop: StopRule) -> None:
        """
        Raises:
            DecodingFault: says which rule was broken.
        """
        told = self._breach(branches, live, drawn, stop)
        if told:
            raise DecodingFault(f"{self._called} {told}")

    def check_drop(self, choice: int, rows: list[int]) -> None:
        """
        Raises:
            DecodingFault: these are not live rows, each once.
        """
        if not isinstance(rows, list) or len(set(rows)) != len(rows) or not set(rows) <= set(range(self._num_rows)):
            raise DecodingFault(f"{self._called} dropped rows {rows!r} of {self._num_rows}")
        if 0 <= choice < self._num_answers:
            self._is_open[choice] = False
        self._num_rows -= len(rows)

    def _breach(self, branches: Branches, live: Live, drawn: Drawn, stop: StopRule) -> str | None:
        if not isinstance(branches, Branches):
            return f"must return Branches, not {type(branches).__name__}"
        columns = {name: getattr(branches, name) for name in ("parent", "token", "choice", "finish")}
        if branches.node is not None:
            columns["node"] = branches.node
        size = len(branches.parent) if isinstance(branches.parent, np.ndarray) else 0
        for name, column in columns.items():
            if not _is_integers(column, 1, size):
                return f"must return {name} as an array of integers, as long as parent"
        if not _all_between(branches.parent, 0, live.num_rows - 1):
            return f"continued a row that is not among the {live.num_rows} live ones"
        if not np.isin(branches.finish, _FINISHES).all():
            return "returned a finish that is no Finish"
        is_drawn = (drawn.tokens[branches.parent] == branches.token[:, None]) & (
            drawn.logprobs[branches.parent] != -np.inf
        )
        if not is_drawn.any(-1).all() or not _all_between(branches.token, 0, self._vocab_size - 1):
            return "appended a token that was not drawn for its row, or that is excluded"
        is_open = branches.finish == Finish.OPEN
        if is_open.sum() > self._max_live:
            return f"keeps {is_open.sum()} rows live; its max_live is {self._max_live}"
        if is_open.any() and live.num_generated + 1 >= stop.max_tokens:
            return f"went on past {stop.max_tokens} tokens, the longest answer"
        told = self._answers_breach(branches.choice, branches.finish, is_at_once=True)
        if branches.settled is not None:
            told = told or self._settled_breach(branches.settled)
        if branches.forgotten is not None and not _is_integers(branches.forgotten, 1, len(branches.forgotten)):
            told = told or "must return forgotten as an array of integers"
        self._num_rows = int(is_open.sum())
        if not told and not self._num_rows and not self._num_ended:
            told = "ended without any answer; it must raise NoAnswer then"
        return told

    def _settled_breach(self, settled: Settled) -> str | None:
        size = len(settled.choice)
        for name in ("choice", "token", "node", "finish"):
            if not _is_integers(getattr(settled, name), 1, size):
                return f"must settle {name} as an array of integers, as long as choice"
        if len(settled.score) != size or len(settled.inclusion_probability) != size:
            return "must settle as many scores and inclusion probabilities as tokens"
        if not _all_between(settled.choice, 0, self._num_answers - 1):
            return f"settled an answer that is not among the {self._num_answers} asked for"
        if not _all_between(settled.token, 0, self._vocab_size - 1):
            return f"settled a token outside the vocabulary of {self._vocab_size}"
        if not np.isin(settled.finish, _FINISHES).all():
            return "settled a finish that is no Finish"
        return self._answers_breach(settled.choice, settled.finish, is_at_once=False)

    def _answers_breach(
        self, choices: NDArray[np.int64], finishes: NDArray[np.int64], *, is_at_once: bool
    ) -> str | None:
        """Whether an answer gets a token that it cannot have: after its end, or two at once in one step."""
        if not _all_between(choices, -1, self._num_answers - 1):
            return f"gave a token to an answer that is not among the {self._num_answers} asked for"
        own = choices[choices >= 0]
        if is_at_once and len(np.unique(own)) != len(own):
            return "gave one answer two tokens in one step"
        for choice, finish in zip(own.tolist(), finishes[choices >= 0].tolist(), strict=True):
            if not self._is_open[choice]:
                return f"gave a token to answer {choice}, which is over"
            if finish != Finish.OPEN:
                self._is_open[choice] = False
                self._num_ended += 1
        return None


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and 1 <= value <= most


def _is_integers(values: object, num_dimensions: int, size: int) -> bool:
    return (
        isinstance(values, np.ndarray)
        and np.issubdtype(values.dtype, np.integer)
        and values.ndim == num_dimensions
        and len(values) == size
    )


def _all_between(values: NDArray[np.int64], low: int, high: int) -> bool:
    return not values.size or bool(values.min() >= low and values.max() <= high)
