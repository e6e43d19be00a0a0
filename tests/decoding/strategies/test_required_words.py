"""`RequiredWords` against a plain search of every string for every word."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_words import Tokens, beginnings, num_missing, progress

from penstock_decoding.strategies.required_words import START, RequiredWords, Standing, Word

# Few different tokens, so that words overlap, repeat themselves and lie in each other.
forms = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
words_of_forms = st.lists(st.lists(forms, min_size=1, max_size=3), min_size=1, max_size=5)
texts = st.lists(st.integers(1, 4), max_size=12).map(tuple)


def walk(required: RequiredWords, text: Tokens) -> Standing:
    """Where the text leads, token by token; arrays of one."""
    now = Standing(np.array([START]), np.zeros(1, np.uint64), np.zeros(1, np.int64), np.zeros(1, np.int64))
    for token in text:
        after = required.after(now.states, now.met)
        at = (np.array([0]), required.symbols(np.array([token])))
        now = Standing(after.states[at], after.met[at], after.progress[at], after.num_needed[at])
    return now


def met_words(standing: Standing) -> set[int]:
    return {word for word in range(64) if int(standing.met[0]) >> word & 1}


@settings(max_examples=300, deadline=None)
@given(words=words_of_forms, text=texts)
def test_equals_a_plain_search(words: Sequence[Word], text: Tokens) -> None:
    """Met words, progress, what is needed and which tokens lead on, for words that overlap in every way."""
    required = RequiredWords(words)
    standing = walk(required, text)
    missing = [num_missing(word, text) for word in words]
    assert met_words(standing) == {i for i, count in enumerate(missing) if count == 0}
    if text:
        assert standing.progress[0] == progress(words, text)
        assert standing.num_needed[0] == max(missing)
    assert (int(standing.met[0]) == int(required.all_met)) == (not any(missing))
    lead_on = {
        form[size]
        for word, count in zip(words, missing, strict=True)
        if count
        for form in word
        for size in beginnings(tuple(form), text)
    }
    named = required.next_tokens(standing.states, standing.met)[0].tolist()
    assert sorted(token for token in named if token >= 0) == sorted(lead_on)


@settings(max_examples=100, deadline=None)
@given(words=words_of_forms, text=texts)
def test_some_next_token_always_brings_progress(words: Sequence[Word], text: Tokens) -> None:
    """From wherever a hypothesis stands, one of its next tokens takes it one bank further: so all words get in."""
    required = RequiredWords(words)
    now = walk(required, text)
    while now.met[0] != required.all_met:
        named = [token for token in required.next_tokens(now.states, now.met)[0].tolist() if token >= 0]
        steps = [walk(required, (*text, token)) for token in named]
        furthest = max(range(len(named)), key=lambda i: int(steps[i].progress[0]))
        assert steps[furthest].progress[0] > (now.progress[0] if text else 0)
        now, text = steps[furthest], (*text, named[furthest])


@pytest.mark.parametrize(
    ("words", "text", "met"),
    [
        ([[(1, 1, 2)]], (1, 1, 1, 2), {0}),  # a match that breaks off goes on from its longest end
        ([[(1, 2)], [(2, 3)]], (1, 2, 3), {0, 1}),  # a token may serve two words
        ([[(1,)], [(1, 2)]], (1, 2), {0, 1}),  # a word may begin another one
        ([[(2,)], [(1, 2, 3)]], (1, 2, 3), {0, 1}),  # or lie inside it
        ([[(1, 2), (3,)]], (3,), {0}),  # any form will do
        ([[(1, 2)]], (1, 3, 2), set()),  # in one piece only
        ([[(5,)]], (4, 6), set()),
    ],
    ids=str,
)
def test_words_met(words: Sequence[Word], text: Tokens, met: set[int]) -> None:
    assert met_words(walk(RequiredWords(words), text)) == met


def test_rows_do_not_look_at_each_other() -> None:
    """Many hypotheses at once stand where each stands alone."""
    required = RequiredWords([[(1, 2, 1)], [(2, 2), (3,)]])
    standings = [walk(required, text) for text in ((1,), (1, 2), (2, 2), (3, 1))]
    states, met = (np.concatenate(column) for column in zip(*((s.states, s.met) for s in standings), strict=True))
    together = required.after(states, met)
    for i, standing in enumerate(standings):
        alone = required.after(standing.states, standing.met)
        assert (together.progress[i] == alone.progress[0]).all()
        assert (together.met[i] == alone.met[0]).all()


def test_as_many_words_as_are_allowed() -> None:
    """32 words of 8 tokens: every bit has its place."""
    words = [[tuple(range(8 * i, 8 * i + 8))] for i in range(32)]
    required = RequiredWords(words)
    assert required.num_symbols == 257
    assert met_words(walk(required, tuple(range(256)))) == set(range(32))
    assert walk(required, tuple(range(255))).progress[0] == 255
