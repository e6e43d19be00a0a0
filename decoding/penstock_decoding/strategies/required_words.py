"""`RequiredWords`: how far each of many hypotheses has come with the words that its answer must hold.

The words form one automaton (Aho and Corasick, "Efficient string matching", 1975): its state is the longest end of the
hypothesis that begins some word, so that overlapping words, repeated tokens and words inside words are all counted
right, and a match that breaks off goes on from its longest end that still matches. A word may have several forms, of
which any one will do.

What a hypothesis still lacks is a function of its state and of the set of words it has met. All of it is in tables, so
that a step of 512 rows runs no Python per row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.draws import NO_TOKEN

START = 0
"""The state in which nothing has begun."""

Ids = NDArray[np.int64]
Sets = NDArray[np.uint64]
"""Sets of words, one bit each."""

Word = Sequence[Sequence[int]]
"""A word's forms, token by token."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where hypotheses stand, in arrays of equal shape.

    `met`: the words they hold; `progress`: how many tokens of the words they have, those of the one word that is
    furthest under way among them; `num_needed`: fewer further tokens than this cannot bring all words.
    """

    states: Ids
    met: Sets
    progress: Ids
    num_needed: Ids


class RequiredWords:
    """The automaton of up to 64 words."""

    def __init__(self, words: Sequence[Word]) -> None:
        """`words`: each with at least one form, each form with at least one token."""
        forms = [(tuple(form), word) for word, alternatives in enumerate(words) for form in alternatives]
        nodes = _Nodes()
        paths = [nodes.insert(form) for form, _ in forms]
        self._alphabet = np.unique(np.asarray([token for form, _ in forms for token in form], np.int64))
        symbol_of = {token: symbol for symbol, token in enumerate(self._alphabet.tolist())}
        # The last symbol stands for every token that is in no word.
        self._goto = np.zeros((len(nodes.children), len(self._alphabet) + 1), np.int64)
        self._sizes = np.asarray([min(map(len, alternatives)) for alternatives in words], np.int64)
        # How many tokens each word still needs in each state, by the form that needs fewest.
        self._num_missing = np.empty((len(nodes.children), len(words)), np.int64)
        through = [0] * len(nodes.children)  # the words that have a form through each node
        own = np.full_like(self._num_missing, np.iinfo(np.int64).max)
        for (form, word), path in zip(forms, paths, strict=True):
            for depth, node in enumerate(path):
                through[node] |= 1 << word
                own[node, word] = min(own[node, word], len(form) - depth)
        # Tokens that lead on, each with the words it leads to.
        named: list[dict[int, int]] = [{} for _ in nodes.children]
        fails = nodes.fails()
        for node, fail in fails.items():  # shorter beginnings first: `fail` is complete
            self._num_missing[node] = own[node]
            if node != START:
                self._num_missing[node] = np.minimum(own[node], self._num_missing[fail])
                self._goto[node] = self._goto[fail]
                named[node].update(named[fail])
            for token, child in nodes.children[node].items():
                self._goto[node, symbol_of[token]] = child
                named[node][token] = named[node].get(token, 0) | through[child]
        self._bits = np.uint64(1) << np.arange(len(words), dtype=np.uint64)
        self._holds = ((self._num_missing == 0) * self._bits).sum(-1, dtype=np.uint64)
        self.all_met = self._bits.sum(dtype=np.uint64)
        most = max(map(len, named))
        self._named = np.full((len(named), most), NO_TOKEN, np.int64)
        self._leads_to = np.zeros((len(named), most), np.uint64)
        for node, leads_to_by_token in enumerate(named):
            self._named[node, : len(leads_to_by_token)] = list(leads_to_by_token)
            self._leads_to[node, : len(leads_to_by_token)] = list(leads_to_by_token.values())

    @property
    def num_symbols(self) -> int:
        """Different tokens of the words, and one more for all others."""
        return self._goto.shape[1]

    def symbols(self, tokens: Ids) -> Ids:
        """What each token is to the automaton, below `num_symbols`."""
        places = np.searchsorted(self._alphabet, tokens).clip(max=len(self._alphabet) - 1)
        return np.where(self._alphabet[places] == tokens, places, len(self._alphabet))

    def next_tokens(self, states: Ids, met: Sets) -> Ids:
        """The tokens that begin or carry on an unmet word, [hypotheses, most of any state]; filled with `NO_TOKEN`."""
        return np.where(self._leads_to[states] & ~met[:, None], self._named[states], NO_TOKEN)

    def after(self, states: Ids, met: Sets) -> Standing:
        """Where each hypothesis would stand after each symbol, [hypotheses, symbols]."""
        states = self._goto[states]
        met = met[:, None] | self._holds[states]
        is_unmet = (met[..., None] & self._bits) == 0
        missing = np.where(is_unmet, self._num_missing[states], 0)
        furthest = np.where(is_unmet, self._sizes - missing, 0).max(-1)
        progress = self._sizes.sum() - np.where(is_unmet, self._sizes, 0).sum(-1) + furthest
        return Standing(states, met, progress, missing.max(-1))


class _Nodes:
    """The trie of all forms, on plain dictionaries: there are few hundred nodes."""

    def __init__(self) -> None:
        self.children: list[dict[int, int]] = [{}]

    def insert(self, form: Sequence[int]) -> list[int]:
        """The nodes of a form, from the start to its end."""
        path = [START]
        for token in form:
            node = self.children[path[-1]].setdefault(token, len(self.children))
            if node == len(self.children):
                self.children.append({})
            path.append(node)
        return path

    def fails(self) -> dict[int, int]:
        """For each node, in order of depth, the node of the longest proper end of its string that is one."""
        fails = {START: START}
        level = [START]
        while level:
            below = []
            for node in level:
                for token, child in self.children[node].items():
                    fail = fails[node]
                    while token not in self.children[fail] and fail != START:
                        fail = fails[fail]
                    fails[child] = START if node == START else self.children[fail].get(token, START)
                    below.append(child)
            level = below
        return fails
