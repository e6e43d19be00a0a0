"""Bad words."""

import pytest
import torch
from decoding_rows import apply_asks, distinct_scores, kept, make_row
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import NoBadWordsLogitsProcessor

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.bad_words import MAX_WORDS, BadWords, BadWordsParams

VOCAB_SIZE = 20
WORDS = ((5,), (1, 2), (1, 2, 3), (2, 3), (4, 4, 4, 4, 6), (7, 8, 9, 10, 11, 12))


def exclude(tokens: list[int], split: int, words: tuple[tuple[int, ...], ...], stops: tuple[int, ...] = ()) -> Tensor:
    """One row of known scores after the processor."""
    row = make_row(0, prompt=tokens[:split], output=tokens[split:], stop_token_ids=stops)
    return apply_asks(BadWords(), [Ask(row, BadWordsParams(words))], distinct_scores(1, VOCAB_SIZE, seed=1))[0]


@given(
    tokens=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    split=st.integers(0, 12),
    words=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8, unique=True),
    stops=st.sampled_from([(), (0,), (0, 3)]),
)
@settings(max_examples=300, deadline=None)
def test_equals_transformers(
    tokens: list[int], split: int, words: list[tuple[int, ...]], stops: tuple[int, ...]
) -> None:
    """Scores are those of transformers, for every sequence and wherever its prompt ends; a word that is one stop token
    is passed over there too."""
    if all(len(word) == 1 and word[0] in stops for word in words):
        words.append((1, 1))  # theirs takes no empty list
    theirs = NoBadWordsLogitsProcessor([list(word) for word in words], list(stops) or None)
    expected = theirs(torch.tensor([tokens]), distinct_scores(1, VOCAB_SIZE, seed=1))[0]
    assert torch.equal(exclude(tokens, split, tuple(words), stops), expected)


def test_by_hand() -> None:
    """The last token of a word is out once the others stand before it, in the prompt, the answer, or both."""
    for split in (0, 1, 2):
        after = exclude([1, 2], split, WORDS)
        assert (~kept(after)).nonzero().squeeze(-1).tolist() == [3, 5]
    assert (~kept(exclude([4, 4, 4, 4], 1, WORDS))).nonzero().squeeze(-1).tolist() == [5, 6]
    assert (~kept(exclude([], 0, WORDS))).nonzero().squeeze(-1).tolist() == [5]


def test_a_stop_token_may_end_a_longer_word() -> None:
    """Only a word that is nothing but a stop token is passed over."""
    after = exclude([1], 0, ((2,), (1, 3)), stops=(2, 3))
    assert (~kept(after)).nonzero().squeeze(-1).tolist() == [3]


def test_each_row_has_its_own_words() -> None:
    """Rows share one plan, and rows without a word at their end cost nothing."""
    params = [BadWordsParams(((5,),)), BadWordsParams(((1, 7),)), BadWordsParams(), BadWordsParams(((3, 4, 6),))]
    asks = [Ask(make_row(i, prompt=[1, 2], output=[3, 4]), p) for i, p in enumerate(params)]
    after = apply_asks(BadWords(), asks, torch.zeros(4, VOCAB_SIZE))
    assert [(~kept(row)).nonzero().squeeze(-1).tolist() for row in after] == [[5], [], [], [6]]
    assert BadWords().plan(asks[1:3]) is None


def test_parameters_are_read_once() -> None:
    """The words of a request are sorted once, not in every step, also when many requests come and go."""
    processor = BadWords()
    for i in range(3000):
        row = make_row(0, prompt=[1], output=[])
        assert processor.plan([Ask(row, BadWordsParams(((i % 2, 5),)))]) is None or i % 2


class Words:
    """An encoder that numbers what it meets."""

    def __init__(self) -> None:
        self.met: list[tuple[str, str]] = []

    def at_start(self, text: str) -> list[int]:
        return self._number("start", text)

    def within(self, text: str) -> list[int]:
        return self._number("within", text)

    def holding(self, text: str) -> tuple[int, ...]:
        raise AssertionError("words are written, not sought")

    def _number(self, kind: str, text: str) -> list[int]:
        if (kind, text) not in self.met:
            self.met.append((kind, text))
        return [self.met.index((kind, text))]


def test_texts_become_words() -> None:
    """A text counts at the start of an answer, in the midst of one, and behind a space; no form twice."""
    encoder = Words()
    resolved = BadWordsParams(((50, 51),), ("cat", " dog")).with_token_ids(encoder)
    assert encoder.met == [
        ("start", "cat"),
        ("within", "cat"),
        ("within", " cat"),
        ("start", " dog"),
        ("within", " dog"),
        ("within", "dog"),
    ]
    assert resolved == BadWordsParams(((50, 51), (0,), (1,), (2,), (3,), (4,), (5,)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("words", value) for value in (((),), ((1,), ()), ((1,) * 257,), ((1,),) * (MAX_WORDS + 1))),
        *(("texts", value) for value in (("",), ("  ",), ("a" * 1025,), ("a",) * (MAX_WORDS + 1))),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_ranges(field: str, value: object) -> None:
    """A parameter out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        BadWordsParams(**{field: value})  # type: ignore[arg-type]  # of the type that its own field has
    assert caught.value.param.split("[")[0] == field
