"""allowed_sequences: the answer is one of the token sequences given and then ends.

Each row stands at a node of a trie of the sequences (De Cao et al., "Autoregressive Entity Retrieval", 2021, section
3.2) and may only go on to that node's children, or, where a sequence is complete, to the likeliest of the request's
stop tokens, so that a search does not find an answer once for each way to end it; where one sequence is the beginning
of another, to both. What the allowed tokens' probabilities are to each other is kept.

Invariant: every answer is a whole sequence. Requests whose stop conditions could not keep this are refused.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask, Row
from penstock_decoding.tensors import RowSelection, index_tensor
from penstock_decoding.texts import TextEncoder
from penstock_decoding.token_lists import TokenLists
from penstock_decoding.trie import OFF, ROOT, Trie

if TYPE_CHECKING:
    from torch import Tensor

NONE = TokenLists()
MAX_SEQUENCES = 100_000  # a list that is read has no more items either
MAX_TOKENS = 2_000_000
MAX_LENGTH = 1024  # a trie is built level by level
MAX_CHARACTERS = 4_000_000

# Of tries that no row uses any more but the next request may ask for again: 17 bytes each, and the sequences.
_MAX_KEPT_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class AllowedSequencesParams:
    """`sequences`: token ids of each answer that is allowed, without the token that ends it. `texts`: the same as
    texts. At most 100 000 together, 1024 tokens each, 2 000 000 tokens in all."""

    sequences: TokenLists = field(
        default=NONE, metadata={"maxItems": MAX_SEQUENCES, "items": {"minItems": 1, "maxItems": MAX_LENGTH}}
    )
    texts: tuple[str, ...] = field(default=(), metadata={"maxItems": MAX_SEQUENCES, "items": {"minLength": 1}})

    def __post_init__(self) -> None:
        sizes = self.sequences.each_size()
        if not len(sizes) and not self.texts:
            raise ParameterError("sequences", "must name at least one answer, as token ids or as a text")
        if len(sizes) + len(self.texts) > MAX_SEQUENCES:
            raise ParameterError("sequences", f"must be at most {MAX_SEQUENCES}, token ids and text together")
        if not 1 <= sizes.min(initial=1) <= sizes.max(initial=1) <= MAX_LENGTH:
            raise ParameterError("sequences", f"must have between 1 and {MAX_LENGTH} tokens each")
        if sizes.sum() > MAX_TOKENS:
            raise ParameterError("sequences", f"must have at most {MAX_TOKENS} tokens in all")
        if "" in self.texts:
            raise ParameterError(f"texts[{self.texts.index('')}]", "must not be empty")
        if sum(map(len, self.texts)) > MAX_CHARACTERS:
            raise ParameterError("texts", f"must have at most {MAX_CHARACTERS} characters in all")

    def named_tokens(self) -> Iterable[int]:
        tokens: list[int] = np.unique(self.sequences.each_token()).tolist()
        return tokens

    @property
    def has_texts(self) -> bool:
        return bool(self.texts)

    def with_token_ids(self, encoder: TextEncoder) -> "AllowedSequencesParams":
        encoded = tuple(tuple(encoder.at_start(text)) for text in self.texts)
        if () in encoded:
            raise ParameterError(f"texts[{encoded.index(())}]", "has no tokens")
        return AllowedSequencesParams(TokenLists.of((*self.sequences, *encoded)))

    def check_stop(self, stop_token_ids: Sequence[int], min_tokens: int, max_tokens: int) -> None:
        """An answer may be every one of the sequences, whole, and nothing else."""
        stops = np.asarray(stop_token_ids, np.int64)
        # A sequence may spell out the stop token that ends it.
        spells_end = np.isin(self.sequences.last_tokens(), stops)
        sizes = self.sequences.each_size() - spells_end
        shortest, longest = int(sizes.min()), int(sizes.max())
        if np.isin(self.sequences.each_token(), stops).sum() > spells_end.sum():
            raise ParameterError("sequences", "one has a stop token before its end")
        if longest > max_tokens:
            told = f"one has {longest} tokens and max_tokens is {max_tokens}: an answer could be cut short"
            raise ParameterError("sequences", told)
        if shortest < min_tokens:
            raise ParameterError("sequences", f"one has {shortest} tokens and min_tokens is {min_tokens}")
        if not len(stops) and shortest < max_tokens:
            raise ParameterError("sequences", "needs a stop token to end an answer with, and the request has none")


@dataclass(slots=True)
class _Place:
    """How far a sequence has come: after `depth` tokens at `node`, and after `num_seen` wherever that is."""

    trie: Trie
    node: int = ROOT
    depth: int = 0
    num_seen: int = 0

    @property
    def is_past(self) -> bool:
        """Beyond what is allowed: after a stop token that did not end the answer."""
        return self.num_seen > self.depth

    def copy(self) -> "_Place":
        return _Place(self.trie, self.node, self.depth, self.num_seen)

    def go_back(self, num_kept: int) -> None:
        for _ in range(self.depth - num_kept):
            self.node = self.trie.parent(self.node)
        self.depth, self.num_seen = min(self.depth, num_kept), min(self.num_seen, num_kept)


class AllowedSequences:
    """Excludes what leads to no allowed answer. Remembers each sequence's place by slot, and the tries last used."""

    Params = AllowedSequencesParams

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._tries: OrderedDict[AllowedSequencesParams, Trie] = OrderedDict()
        self._num_kept_nodes = 0

    def plan(self, asks: Sequence[Ask[AllowedSequencesParams]]) -> "AllowedSequencesPlan":
        by_trie: dict[Trie, list[tuple[Row, _Place]]] = {}
        for ask in asks:
            place = self._places.get(ask.row.slot)
            if place is None:
                place = self._places[ask.row.slot] = _Place(self._trie_of(ask.params))
            by_trie.setdefault(place.trie, []).append((ask.row, place))
        rows: list[NDArray[np.int64]] = []
        tokens: list[NDArray[np.int64]] = []
        ends: list[Row] = []
        for trie, standing in by_trie.items():
            _catch_up(trie, standing)
            inside = [(row.index, place.node) for row, place in standing if not place.is_past]
            indices, nodes = np.asarray(inside, np.int64).reshape(-1, 2).T
            found, counts = trie.children(nodes)
            rows.append(np.repeat(indices, counts))
            tokens.append(found)
            ends += [
                row for row, place in standing if row.stop_token_ids and (place.is_past or trie.is_end[place.node])
            ]
        planned = [ask.row.index for ask in asks]
        return AllowedSequencesPlan(planned, np.concatenate(rows), np.concatenate(tokens), ends)

    def fork(self, source: int, target: int) -> None:
        if source in self._places:
            self._places[target] = self._places[source].copy()

    def rollback(self, slot: int, num_kept: int) -> None:
        if slot in self._places:
            self._places[slot].go_back(num_kept)

    def release(self, slot: int) -> None:
        self._places.pop(slot, None)

    def _trie_of(self, params: AllowedSequencesParams) -> Trie:
        trie = self._tries.get(params)
        if trie is None:
            trie = self._tries[params] = Trie(params.sequences)
            self._num_kept_nodes += trie.num_nodes
        self._tries.move_to_end(params)
        while self._num_kept_nodes > _MAX_KEPT_NODES:
            self._num_kept_nodes -= self._tries.popitem(last=False)[1].num_nodes
        return trie


def _catch_up(trie: Trie, standing: Sequence[tuple[Row, _Place]]) -> None:
    """Take in the tokens appended since the last step: one each, but after a request has come back or was forked."""
    behind = [(row, place) for row, place in standing if place.num_seen < len(row.output)]
    while behind:
        nodes = np.asarray([place.node for _, place in behind], np.int64)
        tokens = np.asarray([row.output[place.num_seen] for row, place in behind], np.int64)
        for (_, place), node in zip(behind, trie.descend(nodes, tokens).tolist(), strict=True):
            if node != OFF and not place.is_past:
                place.node, place.depth = node, place.depth + 1
            place.num_seen += 1
        behind = [(row, place) for row, place in behind if place.num_seen < len(row.output)]


class AllowedSequencesPlan:
    """Entries (row, token) that stay, and in the rows that may end the likeliest stop token; all else is excluded."""

    def __init__(
        self, planned: Sequence[int], rows: NDArray[np.int64], tokens: NDArray[np.int64], ends: Sequence[Row]
    ) -> None:
        self._planned = RowSelection(planned)
        self._rows = rows
        self._tokens = tokens
        self._end_rows = np.asarray([row.index for row in ends], np.int64)
        most = max((len(row.stop_token_ids) for row in ends), default=0)
        # Rows with fewer stop tokens name their first one again.
        padded = [[*row.stop_token_ids, *[row.stop_token_ids[0]] * (most - len(row.stop_token_ids))] for row in ends]
        self._stops = np.asarray(padded, np.int64)

    def apply(self, scores: "Tensor") -> None:
        rows, tokens = index_tensor(scores, self._rows), index_tensor(scores, self._tokens)
        kept = scores[rows, tokens]
        end_rows, stops = index_tensor(scores, self._end_rows), index_tensor(scores, self._stops)
        if len(self._end_rows):
            scored = scores[end_rows[:, None], stops]
            # How many stand before the first that is as likely as any: its place.
            place = (scored < scored.amax(-1, keepdim=True)).long().cumprod(-1).sum(-1, keepdim=True)
            stops, kept_stops = stops.gather(-1, place).squeeze(-1), scored.gather(-1, place).squeeze(-1)
        values = self._planned.take(scores)
        values.fill_(float("-inf"))
        self._planned.put(scores, values)
        scores.index_put_((rows, tokens), kept)
        if len(self._end_rows):
            scores.index_put_((end_rows, stops), kept_stops)
