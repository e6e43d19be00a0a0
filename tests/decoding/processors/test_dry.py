"""DRY against a plain reading of its definition."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, make_row
from hypothesis import given, settings
from hypothesis import strategies as st
from slot_lives import EDITS, TOKENS, VOCAB_SIZE, Edits, live
from torch import Tensor

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.dry import MAX_PENALTY, USUAL_BREAKERS, Dry, DryParams
from penstock_decoding.processors.repeats import suffix_matches

BREAKERS = ((2,), (3, 0), (0, 1, 1))


def penalise(processor: Dry, prompt: Sequence[int], output: Sequence[int], params: DryParams, slot: int = 0) -> Tensor:
    """What one row of zeros becomes."""
    ask = Ask(make_row(0, slot=slot, prompt=prompt, output=output), params)
    return apply_asks(processor, [ask], torch.zeros(1, VOCAB_SIZE))[0]


def penalties(tokens: Sequence[int], params: DryParams) -> dict[int, float]:
    """The definition read word by word: every earlier place, and every length of match there."""
    window = list(tokens)[-params.range :] if params.range > 0 else [] if params.range == 0 else list(tokens)
    longest: dict[int, int] = {}
    for place in range(1, len(window)):
        for length in range(1, place + 1):
            repeated = window[len(window) - length :]
            if window[place - length : place] != repeated or _is_broken(tokens, length, params.breakers):
                break
            if length >= params.allowed_length:
                longest[window[place]] = max(longest.get(window[place], 0), length)
    return {
        token: params.multiplier * params.base ** (length - params.allowed_length)
        for token, length in longest.items()
        if (token,) not in params.breakers
    }


def _is_broken(tokens: Sequence[int], length: int, breakers: Sequence[tuple[int, ...]]) -> bool:
    """Whether a breaker ends among the last `length` tokens."""
    return any(
        tuple(tokens[end - len(breaker) : end]) == breaker
        for breaker in breakers
        for end in range(len(tokens) - length + 1, len(tokens) + 1)
        if end >= len(breaker)
    )


def by_definition(tokens: Sequence[int], params: DryParams) -> Tensor:
    expected = torch.zeros(VOCAB_SIZE)
    for token, penalty in penalties(tokens, params).items():
        expected[token] = -penalty
    return expected


PARAMS = st.builds(
    DryParams,
    multiplier=st.sampled_from([0.5, 0.8, 4.0]),
    base=st.sampled_from([1.0, 1.2, 1.75]),
    allowed_length=st.integers(1, 5),
    range=st.sampled_from([-1, -1, 0, 1, 2, 5, 9, 30]),
    breakers=st.lists(st.sampled_from(BREAKERS), unique=True).map(tuple),
    breaker_texts=st.just(()),
)


def test_by_hand() -> None:
    """llama.cpp's own example: after a b c c b c y a b c, the token c would repeat "a b c" (3), y "b c" (2) and b "c"
    (1); with an allowed length of 2 the first two are penalised."""
    a, b, c, y = 5, 6, 7, 8
    after = penalise(Dry(), [a, b, c, c, b], [c, y, a, b, c], DryParams(0.5, 2.0, 2, breaker_texts=()))
    assert {token: value for token, value in enumerate(after.tolist()) if value} == {c: -1.0, y: -0.5}
    after = penalise(Dry(), [a, b, c, c, b], [c, y, a, b, c], DryParams(0.5, 2.0, 1, breaker_texts=()))
    assert {token: value for token, value in enumerate(after.tolist()) if value} == {c: -2.0, y: -1.0, b: -0.5}


def test_breakers_by_hand() -> None:
    """No match reaches back over a breaker, nor is a breaker penalised."""
    tokens = [5, 6, 9, 7, 8, 1, 5, 6, 9, 7, 8]
    plain, broken = DryParams(1.0, 2.0, 1, breaker_texts=()), DryParams(1.0, 2.0, 1, breakers=((9,),))
    assert penalise(Dry(), tokens, [], plain)[1] == -(2.0**4)
    assert penalise(Dry(), tokens, [], broken)[1] == -(2.0**1)
    assert penalise(Dry(), [5, 9, 5], [], plain)[9] == -1.0
    assert penalise(Dry(), [5, 9, 5], [], broken)[9] == 0.0
    assert penalise(Dry(), tokens, [], DryParams(1.0, 2.0, 1, breakers=((6, 9), (9, 3))))[1] == -(2.0**1)


def test_range_by_hand() -> None:
    """Only the last tokens count: a repeat of what lies before them is none, and no match is longer than they show."""
    tokens = [5, 6, 7, 1, 5, 6, 7]
    params = {n: DryParams(1.0, 2.0, 1, range=n, breaker_texts=()) for n in (-1, 7, 6, 5, 4, 0)}
    found = {n: -penalise(Dry(), tokens, [], p)[1].item() for n, p in params.items()}
    assert found == {-1: 4.0, 7: 4.0, 6: 2.0, 5: 1.0, 4: 0.0, 0: 0.0}


@given(prompt=st.lists(st.integers(0, 4), max_size=40), output=st.lists(st.integers(0, 4), max_size=20), params=PARAMS)
@settings(max_examples=300, deadline=None)
def test_equals_the_definition(prompt: list[int], output: list[int], params: DryParams) -> None:
    """Any sequence and parameters give what the definition gives, wherever the prompt ends."""
    expected = by_definition([*prompt, *output], params)
    torch.testing.assert_close(penalise(Dry(), prompt, output, params), expected, rtol=1e-6, atol=0)


@given(prompt=TOKENS, edits=EDITS, params=PARAMS)
@settings(max_examples=200, deadline=None)
def test_any_life(prompt: list[int], edits: Edits, params: DryParams) -> None:
    """Whatever is appended, cut back and forked, with plans in between or not, the memory equals a fresh one."""
    processor = Dry()
    for slot, output in live(processor, prompt, edits, lambda row: processor.plan([Ask(row, params)])):
        fresh = penalise(Dry(), prompt, output, params)
        assert torch.equal(penalise(processor, prompt, output, params, slot), fresh)


@given(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_suffix_matches(tokens: list[int]) -> None:
    """The Z-algorithm counts what comparing token by token counts."""
    expected = []
    for end in range(len(tokens) - 1):
        length = 0
        while length <= end and tokens[end - length] == tokens[len(tokens) - 1 - length]:
            length += 1
        expected.append(length)
    assert suffix_matches(np.asarray(tokens)).tolist() == expected


def test_one_token_a_step() -> None:
    """A loop that the answer falls into costs more with every turn, up to the end of float32 and not beyond: a score
    stays finite and excluded tokens stay excluded."""
    processor, output = Dry(), list[int]()
    params = DryParams(1.0, 10.0, 2, breaker_texts=())
    for step in range(60):
        output.append([5, 6, 7][step % 3])
        after = penalise(processor, [5, 6, 7], output, params)
        following = [5, 6, 7][(step + 1) % 3]
        expected = min(10.0 ** (step + 1 - 2), MAX_PENALTY) if step >= 1 else 0.0
        assert after[following].item() == pytest.approx(-expected, rel=1e-6)
    ask = Ask(make_row(0, prompt=[5, 6, 7], output=output), params)
    scores = torch.full((1, VOCAB_SIZE), NEVER)
    scores[0, 5] = 1.0
    after = apply_asks(Dry(), [ask], scores)[0]
    assert after[5].isfinite() and (after[torch.arange(VOCAB_SIZE) != 5] == NEVER).all()


def test_each_row_has_its_own_parameters() -> None:
    """Rows with other sequences and other parameters share one plan."""
    rows = [
        ([1, 2, 1, 2], DryParams(1.0, 2.0, 1, breaker_texts=())),
        ([1, 2, 3, 4], DryParams(1.0, 2.0, 1, breaker_texts=())),
        ([1, 2, 1, 2], DryParams(0.0, 2.0, 1)),
        ([1, 2, 1, 2], DryParams(1.0, 2.0, 1, breakers=((2,),))),
        ([4, 4, 4, 4], DryParams(3.0, 1.0, 3, breaker_texts=())),
    ]
    asks = [Ask(make_row(i, prompt=tokens, output=()), params) for i, (tokens, params) in enumerate(rows)]
    scores = distinct_scores(len(rows), VOCAB_SIZE, seed=1)
    after = apply_asks(Dry(), asks, scores)
    for i, (tokens, params) in enumerate(rows):
        expected = scores[i] + (by_definition(tokens, params) if params.multiplier else 0.0)
        torch.testing.assert_close(after[i], expected)


def test_nothing_to_penalise_costs_nothing() -> None:
    """A multiplier of 0, a range of 0 and a sequence without a repeat give no plan."""
    for params in (DryParams(0.0), DryParams(range=0), DryParams(allowed_length=9)):
        assert Dry().plan([Ask(make_row(0, prompt=[1, 1, 1], output=[1, 1]), params)]) is None
    assert Dry().plan([Ask(make_row(0, prompt=[1, 2, 3], output=[]), DryParams(allowed_length=1))]) is None
    assert Dry().plan([Ask(make_row(0, prompt=[], output=[]), DryParams(allowed_length=1))]) is None


class Spelling:
    """An encoder in which every character is a token, its code point less 30."""

    def at_start(self, text: str) -> list[int]:
        raise AssertionError("a breaker does not begin an answer")

    def within(self, text: str) -> list[int]:
        return [ord(character) - 30 for character in text]

    def holding(self, text: str) -> tuple[int, ...]:
        return (100, 101) if text == "\n" else ()


def test_texts_become_breakers() -> None:
    """A text is a breaker as its own tokens, and so is every token that holds it; what was given as ids stays."""
    params = DryParams(breakers=((7,),), breaker_texts=("\n", "Hi"))
    assert params.has_texts
    resolved = params.with_token_ids(Spelling())
    assert resolved.breakers == ((7,), (-20,), (100,), (101,), (42, 75))
    assert not resolved.has_texts


def test_usual_breakers() -> None:
    """Without breakers the usual ones are meant; with ids of one's own, or an empty list of texts, they are not."""
    assert DryParams().with_token_ids(Spelling()) == DryParams(breaker_texts=USUAL_BREAKERS).with_token_ids(Spelling())
    assert DryParams().has_texts
    for params in (DryParams(breaker_texts=()), DryParams(breakers=((1,),)), DryParams(multiplier=0)):
        assert not params.has_texts


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("multiplier", value) for value in (-0.1, 100.1, math.inf)),
        *(("base", value) for value in (0.99, 100.1, math.inf)),
        *(("allowed_length", value) for value in (0, -1, 10**9)),
        *(("range", value) for value in (-2, 10**9)),
        *(("breakers", value) for value in (((),), ((1,) * 65,), ((1,),) * (2**16 + 1))),
        *(("breaker_texts", value) for value in (("",), ("a" * 65,), ("a",) * 65)),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_ranges(field: str, value: object) -> None:
    """A parameter out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        DryParams(**{field: value})  # type: ignore[arg-type]  # of the type that its own field has
    assert caught.value.param.split("[")[0] == field
