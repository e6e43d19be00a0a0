"""No repeated n-gram."""

import pytest
import torch
from decoding_rows import apply_asks, distinct_scores, kept, make_row
from hypothesis import given, settings
from hypothesis import strategies as st
from slot_lives import EDITS, TOKENS, VOCAB_SIZE, Edits, live
from torch import Tensor
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.no_repeat_ngram import MAX_SIZE, NoRepeatNgram, NoRepeatNgramParams


def exclude(processor: NoRepeatNgram, prompt: list[int], output: list[int], size: int, slot: int = 0) -> Tensor:
    """One row of known scores after the processor."""
    ask = Ask(make_row(0, slot=slot, prompt=prompt, output=output), NoRepeatNgramParams(size))
    return apply_asks(processor, [ask], distinct_scores(1, VOCAB_SIZE, seed=1))[0]


def by_transformers(tokens: list[int], size: int) -> Tensor:
    """The same scores after transformers' processor."""
    theirs = NoRepeatNGramLogitsProcessor(size)
    result: Tensor = theirs(torch.tensor([tokens], dtype=torch.long), distinct_scores(1, VOCAB_SIZE, seed=1))[0]
    return result


def test_by_hand() -> None:
    """In 1 2 3 1 2 the bigrams 12, 23 and 31 are used: after 2 the token 3 is out; of trigrams too."""
    for size, excluded in ((1, {1, 2, 3}), (2, {3}), (3, {3}), (4, set()), (5, set()), (6, set())):
        after = exclude(NoRepeatNgram(), [1, 2], [3, 1, 2], size)
        assert set((~kept(after)).nonzero().squeeze(-1).tolist()) == excluded


@given(tokens=st.lists(st.integers(0, 3), min_size=1, max_size=40), split=st.integers(0, 40), size=st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_equals_transformers(tokens: list[int], split: int, size: int) -> None:
    """Scores are those of transformers for every sequence, wherever its prompt ends."""
    ours = exclude(NoRepeatNgram(), tokens[:split], tokens[split:], size)
    assert torch.equal(ours, by_transformers(tokens, size))


@given(prompt=TOKENS, edits=EDITS, size=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_life(prompt: list[int], edits: Edits, size: int) -> None:
    """Whatever is appended, cut back and forked, with plans in between or not, the memory equals a fresh one."""
    processor = NoRepeatNgram()
    for slot, output in live(
        processor, prompt, edits, lambda row: processor.plan([Ask(row, NoRepeatNgramParams(size))])
    ):
        fresh = exclude(NoRepeatNgram(), prompt, output, size)
        assert torch.equal(exclude(processor, prompt, output, size, slot), fresh)


def test_forks_outlive_their_source_and_slots_are_reused() -> None:
    """A copy lives on when its source ends, and the next sequence in the slot begins anew."""
    processor = NoRepeatNgram()
    exclude(processor, [1, 2], [3], 2, slot=0)
    processor.fork(0, 1)
    processor.release(0)
    assert torch.equal(exclude(processor, [1, 2], [3, 1], 2, slot=1), by_transformers([1, 2, 3, 1], 2))
    assert torch.equal(exclude(processor, [5], [6, 5], 2, slot=0), by_transformers([5, 6, 5], 2))


def test_long_answers() -> None:
    """The memory grows past the room it began with, and forks of it too."""
    processor, output = NoRepeatNgram(), [i % 7 for i in range(400)]
    for end in (1, 200, 300, 400):
        assert torch.equal(exclude(processor, [1], output[:end], 3), by_transformers([1, *output[:end]], 3))
    processor.fork(0, 1)
    longer = output + [6, 5, 4] * 150
    assert torch.equal(exclude(processor, [1], longer, 3, slot=1), by_transformers([1, *longer], 3))


def test_zero_excludes_nothing() -> None:
    """Size 0 costs nothing, beside rows that have one."""
    asks = [Ask(make_row(i), NoRepeatNgramParams(size)) for i, size in enumerate((0, 1, 0))]
    scores = torch.zeros(3, 12)
    after = apply_asks(NoRepeatNgram(), asks, scores)
    assert kept(after).all(-1).tolist() == [True, False, True]
    assert NoRepeatNgram().plan([asks[0]]) is None


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_range(size: int) -> None:
    """A size out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        NoRepeatNgramParams(size)
    assert caught.value.param == "size"
