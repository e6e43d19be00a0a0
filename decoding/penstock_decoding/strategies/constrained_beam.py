"""Constrained beam search: the best answers among those that hold every required word.

Hypotheses are ranked only against those with as many tokens of the words, their bank, and the beam is dealt out to the
banks in turn, the furthest first; so words enter where they cost least, and the one hypothesis that is furthest always
goes on. Besides each row's likeliest tokens, those that begin or carry on its unmet words are candidates.

Source: Post and Vilar, "Fast Lexically Constrained Decoding with Dynamic Beam Allocation for Neural Machine
Translation" (2018), section 3; the turns are those of transformers' constrained beam search (version 4).
Invariant: no answer lacks a word. One that would end without is not complete: neither a stop token nor `max_tokens`
makes it an answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import Best
from penstock_decoding.errors import ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.beam import MAX_WIDTH
from penstock_decoding.strategies.beam_pool import BeamPool, EarlyStopping
from penstock_decoding.strategies.required_words import START, RequiredWords, Sets, Standing
from penstock_decoding.strategies.search_tree import ROOT, SearchTree
from penstock_decoding.strategies.settling import Settling
from penstock_decoding.strategy import Branches, Drawn, Live, Settled, StopRule
from penstock_decoding.texts import TextEncoder

MAX_WORDS = 32
MAX_WORD_TOKENS = 32
MAX_TOKENS = 256
MAX_TEXT_CHARACTERS = 256

_SEQUENCE = {"minItems": 1, "maxItems": MAX_WORD_TOKENS, "items": {"minimum": 0}}


@dataclass(frozen=True, slots=True)
class ConstrainedBeamParams:
    """`width`, `n`, `length_penalty`, `early_stopping`: as for the strategy `beam`.

    `words`: token sequences that an answer must hold. `any_of`: groups of sequences, of each of which it must hold one
    at least. `texts`: words as texts, with or without a space before. At most 32 of all three together, each sequence
    of at most 32 tokens, and at most 256 tokens in all. A word that is named twice is asked for once.
    """

    width: int = field(metadata={"minimum": 1, "maximum": MAX_WIDTH})
    words: tuple[tuple[int, ...], ...] = field(default=(), metadata={"maxItems": MAX_WORDS, "items": _SEQUENCE})
    any_of: tuple[tuple[tuple[int, ...], ...], ...] = field(
        default=(), metadata={"maxItems": MAX_WORDS, "items": {"minItems": 1, "items": _SEQUENCE}}
    )
    texts: tuple[str, ...] = field(
        default=(), metadata={"maxItems": MAX_WORDS, "items": {"minLength": 1, "maxLength": MAX_TEXT_CHARACTERS}}
    )
    n: int = field(default=1, metadata={"minimum": 1, "maximum": MAX_WIDTH})
    length_penalty: float = field(default=1.0, metadata={"minimum": -10, "maximum": 10})
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise ParameterError("width", f"must be between 1 and {MAX_WIDTH}")
        if not 1 <= self.n <= self.width:
            raise ParameterError("n", f"must be between 1 and the width, {self.width}")
        if not -10 <= self.length_penalty <= 10:
            raise ParameterError("length_penalty", "must be between -10 and 10")
        num_words = len(self.words) + len(self.any_of) + len(self.texts)
        if not 1 <= num_words <= MAX_WORDS:
            raise ParameterError("words", f"must be between 1 and {MAX_WORDS}, with any_of and texts")
        if () in self.any_of:
            raise ParameterError(f"any_of[{self.any_of.index(())}]", "must have at least one sequence")
        for name, sequences in (("words", self.words), ("any_of", self._alternatives)):
            if not all(1 <= len(sequence) <= MAX_WORD_TOKENS for sequence in sequences):
                raise ParameterError(name, f"must have between 1 and {MAX_WORD_TOKENS} tokens each")
        if sum(map(len, (*self.words, *self._alternatives))) > MAX_TOKENS:
            raise ParameterError("words", f"must have at most {MAX_TOKENS} tokens in all, with any_of and texts")
        for i, text in enumerate(self.texts):
            if not 1 <= len(text) <= MAX_TEXT_CHARACTERS:
                raise ParameterError(f"texts[{i}]", f"must have between 1 and {MAX_TEXT_CHARACTERS} characters")

    def named_tokens(self) -> Iterable[int]:
        return {token for sequence in (*self.words, *self._alternatives) for token in sequence}

    @property
    def has_texts(self) -> bool:
        return bool(self.texts)

    def with_token_ids(self, encoder: TextEncoder) -> "ConstrainedBeamParams":
        groups = tuple(_forms(text, encoder) for text in self.texts)
        if () in groups:
            raise ParameterError(f"texts[{groups.index(())}]", "has no tokens")
        try:
            return ConstrainedBeamParams(
                self.width, self.words, (*self.any_of, *groups), (), self.n, self.length_penalty, self.early_stopping
            )
        except ParameterError as error:
            raise ParameterError("texts", f"as tokens: {error.message}") from None

    def check_stop(self, stop_token_ids: Sequence[int], min_tokens: int, max_tokens: int) -> None:
        """An answer of at most `max_tokens` tokens can hold every word before it ends."""
        stops = frozenset(stop_token_ids)
        for token in self.named_tokens():
            if token in stops:
                raise ParameterError("words", f"one has the token {token}, which ends an answer")
        # Words may overlap, but no token stands for two different ones.
        longest = max(min(map(len, group)) for group in self.groups())
        different = {token for group in self.groups() if len(group) == 1 for token in group[0]}
        needed = max(longest, len(different))
        if needed > max_tokens:
            raise ParameterError("words", f"need at least {needed} tokens, and max_tokens is {max_tokens}")

    def groups(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """What an answer must hold: of each group one sequence at least."""
        return tuple(dict.fromkeys((*((word,) for word in self.words), *self.any_of)))

    @property
    def _alternatives(self) -> Iterable[tuple[int, ...]]:
        return chain.from_iterable(self.any_of)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Tokens that rows could go on with, and where that would bring them; arrays of equal length."""

    parent: NDArray[np.int64]
    token: NDArray[np.int64]
    logprob: NDArray[np.float64]
    finish: NDArray[np.int64]
    state: NDArray[np.int64]
    met: Sets
    bank: NDArray[np.int64]

    def take(self, places: NDArray[np.int64]) -> "_Candidates":
        return _Candidates(
            self.parent[places],
            self.token[places],
            self.logprob[places],
            self.finish[places],
            self.state[places],
            self.met[places],
            self.bank[places],
        )


class ConstrainedBeam:
    """One search. Live rows stand best first, whatever their bank."""

    Params = ConstrainedBeamParams

    def __init__(self, params: ConstrainedBeamParams) -> None:
        self.max_live = params.width
        self._params = params
        self._words = RequiredWords(params.groups())
        self._tree = SearchTree()
        self._settling = Settling(params.n)
        self._pool = BeamPool(params.width, params.n, params.length_penalty, params.early_stopping)
        self._nodes = np.asarray([ROOT], np.int64)
        self._logprobs = np.zeros(1)
        self._states = np.asarray([START], np.int64)
        self._met = np.zeros(1, np.uint64)

    def draw(self, live: Live, stop: StopRule) -> Best:
        return Best(self._num_best(stop), self._words.next_tokens(self._states, self._met))

    def advance(self, live: Live, drawn: Drawn, stop: StopRule) -> Branches:
        length = live.num_generated + 1
        candidates = self._candidates(drawn, stop, length)
        rank = _rank_in_bank(candidates)
        is_open = candidates.finish == Finish.OPEN
        complete = candidates.take(np.flatnonzero(~is_open & (rank < self._params.width)))
        going = candidates.take(self._in_turn(candidates, np.flatnonzero(is_open)))
        return self._branches(going, complete, stop, length)

    def drop(self, choice: int) -> list[int]:
        return list(range(len(self._nodes))) if self._settling.drop(choice) else []

    def _num_best(self, stop: StopRule) -> int:
        # As for beam search: enough to go on at full width though the likeliest candidates are complete.
        return max(2, (1 + len(stop.token_ids)) * self._params.width)

    def _candidates(self, drawn: Drawn, stop: StopRule, length: int) -> _Candidates:
        """What was drawn and can still become an answer, as far as any of it can be chosen, best first."""
        totals = self._logprobs[:, None] + drawn.logprobs
        named = self._words.next_tokens(self._states, self._met)
        num_best = drawn.tokens.shape[1] - named.shape[1]
        for place, tokens in enumerate(named.T, start=num_best):
            # A named token that is among the best ones stands there.
            totals[(drawn.tokens[:, :num_best] == tokens[:, None]).any(1), place] = -np.inf
        standing = self._words.after(self._states, self._met)
        symbol = self._words.symbols(drawn.tokens)
        is_plain = symbol == self._words.num_symbols - 1
        totals[is_plain & (totals < self._floors(totals[:, :num_best], standing, stop, length)[:, None])] = -np.inf
        rows, places = np.nonzero(totals > -np.inf)
        token, logprob, symbol = drawn.tokens[rows, places], totals[rows, places], symbol[rows, places]
        finish = stop.finishes(token, length)
        num_left = np.where(finish == Finish.OPEN, stop.max_tokens - length, 0)
        kept = np.flatnonzero(standing.num_needed[rows, symbol] <= num_left)
        kept = kept[np.argsort(-logprob[kept], kind="stable")]
        return _Candidates(
            parent=rows,
            token=token,
            logprob=logprob,
            finish=finish,
            state=standing.states[rows, symbol],
            met=standing.met[rows, symbol],
            bank=standing.progress[rows, symbol],
        ).take(kept)

    def _floors(
        self, totals: NDArray[np.float64], standing: Standing, stop: StopRule, length: int
    ) -> NDArray[np.float64]:
        """For each row the total below which a token that is in no word cannot be chosen. All such tokens of a row
        lead to one bank, and of each bank only as many can matter as are drawn for one row."""
        num_needed, banks = standing.num_needed[:, -1], standing.progress[:, -1]
        floors = np.where(num_needed <= stop.max_tokens - length, -np.inf, np.inf)
        for bank in np.unique(banks):
            rows = np.flatnonzero((banks == bank) & (floors < np.inf))
            values = totals[rows].reshape(-1)
            if len(values) > self._num_best(stop):
                floors[rows] = np.partition(values, -self._num_best(stop))[-self._num_best(stop)]
        return floors

    def _in_turn(self, candidates: _Candidates, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the candidates at `places` those that go on, best first: the best of each bank, the furthest bank first,
        then the second best of each, and so on until the beam is full."""
        banks = candidates.take(places)
        turns = np.lexsort((-banks.bank, _rank_in_bank(banks)))
        return places[np.sort(turns[: self._params.width])]

    def _branches(self, going: _Candidates, complete: _Candidates, stop: StopRule, length: int) -> Branches:
        nodes = self._tree.grow(self._nodes[going.parent], going.token)
        complete_nodes = self._tree.grow(self._nodes[complete.parent], complete.token)
        self._pool.add(complete_nodes, complete.logprob, complete.finish, length, self._tree)
        self._pool.judge(float(going.logprob[0]) if len(nodes) else None, length, stop.max_tokens)
        self._tree.release(self._nodes)
        settled: Settled | None
        if self._pool.is_done:
            self._tree.release(nodes)
            going, nodes = going.take(np.zeros(0, np.int64)), np.zeros(0, np.int64)
            settled = self._settling.rest(self._tree, self._pool.hypotheses())
        else:
            settled = self._settling.growth(self._tree)
        self._nodes, self._logprobs, self._states, self._met = nodes, going.logprob, going.state, going.met
        return Branches(
            parent=np.concatenate((going.parent, complete.parent)),
            token=np.concatenate((going.token, complete.token)),
            choice=np.full(len(nodes) + len(complete_nodes), -1, np.int64),
            finish=np.concatenate((going.finish, complete.finish)),
            node=np.concatenate((nodes, complete_nodes)),
            settled=settled,
            forgotten=self._tree.forgotten(),
        )


def _rank_in_bank(candidates: _Candidates) -> NDArray[np.int64]:
    """The place of each among those of its bank; they come best first."""
    order = np.argsort(candidates.bank, kind="stable")
    banks = candidates.bank[order]
    starts = np.searchsorted(banks, banks)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts
    return rank


def _forms(text: str, encoder: TextEncoder) -> tuple[tuple[int, ...], ...]:
    """The token sequences of a text within an answer: behind a space, and as it stands."""
    texts = (text,) if text[0].isspace() else (" " + text, text)
    return tuple(dict.fromkeys(ids for ids in (tuple(encoder.within(form)) for form in texts) if ids))
