"""Repetition, presence and frequency penalties, and the memory of used tokens behind them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, make_row
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import Ask
from penstock_decoding.processors.penalties import Penalties, PenaltiesParams

VOCAB_SIZE = 30
STRONG = PenaltiesParams(repetition=1.3, presence=0.7, frequency=-0.4)
TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=12)


def penalise(
    processor: Penalties,
    prompt: Sequence[int],
    output: Sequence[int],
    params: PenaltiesParams = STRONG,
    slot: int = 0,
) -> Tensor:
    """One row of known scores after the penalties."""
    row = make_row(0, slot=slot, prompt=prompt, output=output)
    return apply_asks(processor, [Ask(row, params)], distinct_scores(1, VOCAB_SIZE, seed=1))[0]


def formula(prompt: Sequence[int], output: Sequence[int], params: PenaltiesParams = STRONG) -> NDArray[np.float64]:
    """The same by the definition, in float64: the answer alone counts for presence and frequency."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=1)[0].double().numpy()
    for token in {*prompt, *output}:
        scores[token] = scores[token] / params.repetition if scores[token] > 0 else scores[token] * params.repetition
    counts = np.bincount(output, minlength=VOCAB_SIZE) if len(output) else np.zeros(VOCAB_SIZE)
    return np.asarray(scores - params.presence * (counts > 0) - params.frequency * counts)


def assert_formula(
    scores: Tensor, prompt: Sequence[int], output: Sequence[int], params: PenaltiesParams = STRONG
) -> None:
    np.testing.assert_allclose(scores.numpy(), formula(prompt, output, params), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("repetition", [0.5, 1.0, 1.1, 10.0])
def test_repetition_equals_transformers(repetition: float) -> None:
    """Scores are those of transformers: every token of prompt and answer is penalised once."""
    prompt, output = (1, 2, 2, 3), (3, 4, 4)
    theirs = RepetitionPenaltyLogitsProcessor(repetition)(
        torch.tensor([[*prompt, *output]]), distinct_scores(1, VOCAB_SIZE, seed=1)
    )
    ours = penalise(Penalties(), prompt, output, PenaltiesParams(repetition=repetition))
    torch.testing.assert_close(ours, theirs[0], rtol=1e-6, atol=0)


@given(
    prompt=TOKENS,
    output=TOKENS,
    params=st.builds(PenaltiesParams, st.floats(0.1, 10), st.floats(-2, 2), st.floats(-2, 2)),
)
@settings(max_examples=100, deadline=None)
def test_formula(prompt: list[int], output: list[int], params: PenaltiesParams) -> None:
    """Any prompt, answer and penalties give what the definition gives."""
    scores = penalise(Penalties(), prompt, output, params)
    np.testing.assert_allclose(scores.numpy(), formula(prompt, output, params), rtol=1e-5, atol=1e-5)


def test_presence_and_frequency_ignore_the_prompt() -> None:
    """A token of the prompt alone is not penalised; one of the answer is, by presence once and by frequency per use."""
    processor = Penalties()
    row = make_row(0, prompt=(1, 1, 2), output=(2, 3, 3))
    params = PenaltiesParams(presence=0.5, frequency=0.25)
    assert apply_asks(processor, [Ask(row, params)], torch.zeros(1, 5)).tolist() == [[0, 0, -0.75, -1.0, 0]]


def test_each_row_has_its_own_penalties() -> None:
    """Rows with other sequences and other penalties share one plan."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=1).expand(4, -1)
    sequences: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((1, 2), (3,)), ((), ()), ((), (5, 5)), ((9,), ())]
    asks = [
        Ask(make_row(i, prompt=prompt, output=output), PenaltiesParams(1.1 + i, i / 2, -i / 2))
        for i, (prompt, output) in enumerate(sequences)
    ]
    after = apply_asks(Penalties(), asks, scores)
    for i, (prompt, output) in enumerate(sequences):
        assert_formula(after[i], prompt, output, asks[i].params)


def test_nothing_used_costs_nothing() -> None:
    """Before any token there is nothing to penalise and no work."""
    assert Penalties().plan([Ask(make_row(0, prompt=(), output=()), STRONG)]) is None


def test_excluded_tokens_stay_excluded() -> None:
    """No reward (a repetition below 1, a negative presence) brings an excluded token back, nor makes it NaN."""
    row = make_row(0, prompt=(0,), output=(0, 1))
    params = PenaltiesParams(repetition=0.1, presence=-2, frequency=-2)
    after = apply_asks(Penalties(), [Ask(row, params)], torch.tensor([[NEVER, 1.0, 2.0]]))
    assert after.tolist() == [[NEVER, 14.0, 2.0]]


def test_grows_with_the_answer() -> None:
    """One token appended a step, the live list gives what a fresh memory gives."""
    processor, output = Penalties(), list[int]()
    for token in (3, 1, 3, 3, 7):
        output.append(token)
        assert_formula(penalise(processor, (1, 2), output), (1, 2), output)


def test_catches_up_after_steps_without_a_plan() -> None:
    """Tokens appended while the row was not asked about (resumed, or several at once) are taken in at the next plan."""
    processor = Penalties()
    penalise(processor, (1, 2), (3,))
    assert_formula(penalise(processor, (1, 2), (3, 4, 4, 1, 9)), (1, 2), (3, 4, 4, 1, 9))


def test_forks_are_independent() -> None:
    """After a fork the two sequences grow apart, in tokens known before and in new ones."""
    processor, prompt = Penalties(), (1, 2)
    penalise(processor, prompt, (3,), slot=0)
    processor.fork(0, 1)
    assert_formula(penalise(processor, prompt, (3, 3, 5), slot=1), prompt, (3, 3, 5))
    assert_formula(penalise(processor, prompt, (3, 2, 6), slot=0), prompt, (3, 2, 6))
    assert_formula(penalise(processor, prompt, (3, 3, 5, 6), slot=1), prompt, (3, 3, 5, 6))


def test_fork_survives_the_release_of_its_source() -> None:
    """The source may end at once; the copy lives on."""
    processor = Penalties()
    penalise(processor, (1,), (3,), slot=0)
    processor.fork(0, 1)
    processor.release(0)
    assert_formula(penalise(processor, (1,), (3, 3), slot=1), (1,), (3, 3))


def test_rollback_forgets() -> None:
    """Tokens cut off are no longer penalised, unless the prompt or the kept part holds them."""
    processor, prompt = Penalties(), (1, 2)
    penalise(processor, prompt, (3, 4, 2, 3, 5))
    processor.rollback(0, 2)
    assert_formula(penalise(processor, prompt, (3, 4)), prompt, (3, 4))
    assert_formula(penalise(processor, prompt, (3, 4, 5, 6)), prompt, (3, 4, 5, 6))


def test_rollback_of_tokens_not_yet_seen() -> None:
    """A rollback to beyond what was taken in changes nothing: the cut tokens never came here."""
    processor = Penalties()
    penalise(processor, (1,), (3,))
    processor.rollback(0, 4)
    assert_formula(penalise(processor, (1,), (3, 4, 5, 6, 7)), (1,), (3, 4, 5, 6, 7))


def test_released_slot_is_reused() -> None:
    """The next sequence in a slot is not penalised for the tokens of the last one."""
    processor = Penalties()
    penalise(processor, (1, 2), (3, 4), slot=6)
    processor.release(6)
    assert_formula(penalise(processor, (8,), (9,), slot=6), (8,), (9,))


@given(
    prompt=TOKENS,
    edits=st.lists(
        st.tuples(st.just("append"), TOKENS)
        | st.tuples(st.just("rollback"), st.integers(0, 20))
        | st.tuples(st.just("fork"), st.integers(0, 2)),
        max_size=12,
    ),
)
@settings(max_examples=60, deadline=None)
def test_any_life(prompt: list[int], edits: list[tuple[str, object]]) -> None:
    """Whatever is appended, cut back and forked, with plans in between or not, the memory equals a fresh one."""
    processor, outputs = Penalties(), {0: list[int]()}
    for i, (kind, argument) in enumerate(edits):
        slot = i % len(outputs)
        match kind, argument:
            case "append", list():
                outputs[slot] = [*outputs[slot], *argument]
            case "rollback", int():
                del outputs[slot][argument:]
                processor.rollback(slot, len(outputs[slot]))
            case "fork", int():
                target = len(outputs)
                outputs[target] = list(outputs[slot])
                processor.fork(slot, target)
        if i % 2:
            penalise(processor, prompt, outputs[slot], slot=slot)
    for slot, output in outputs.items():
        fresh = penalise(Penalties(), prompt, output)
        assert torch.equal(penalise(processor, prompt, output, slot=slot), fresh)


@pytest.mark.parametrize(
    ("field", "value"),
    [("repetition", 0.0), ("repetition", -1.0), ("repetition", 10.1), ("presence", 2.1), ("frequency", -2.1)],
)
def test_range(field: str, value: float) -> None:
    """A penalty out of range is refused by name."""
    with pytest.raises(ParameterError) as caught:
        PenaltiesParams(**{field: value})
    assert caught.value.param == field
