"""`AllowedSequences`: against the plain rule, and against transformers' prefix-constrained processor."""

from collections.abc import Sequence

import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, kept, make_row, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from penstock_decoding.errors import ParameterError
from penstock_decoding.params import read_decoding
from penstock_decoding.processor import Ask
from penstock_decoding.processors.allowed_sequences import AllowedSequences, AllowedSequencesParams
from penstock_decoding.token_lists import TokenLists

VOCAB_SIZE = 12
STOPS = (0, 9)
Tokens = tuple[int, ...]

# Few different tokens, so that sequences share beginnings and begin each other.
sequences = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12)


def going_on(sequences: Sequence[Tokens], output: Tokens) -> set[int]:
    """What some sequence goes on with."""
    size = len(output)
    return {s[size] for s in sequences if len(s) > size and s[:size] == output}


def allowed_after(sequences: Sequence[Tokens], output: Tokens, scores: Tensor) -> set[int]:
    """The rule: what some sequence goes on with; after a whole one the likeliest stop token."""
    best_stop = max(STOPS, key=lambda token: float(scores[token]))
    return going_on(sequences, output) | ({best_stop} if output in sequences else set())


def tokens_kept(scores: Tensor) -> set[int]:
    return set(kept(scores).nonzero().flatten().tolist())


def ask(row: int, sequences: Sequence[Tokens], output: Sequence[int], slot: int | None = None) -> Ask[object]:
    made = make_row(row, slot=slot, output=output, stop_token_ids=STOPS)
    return Ask(made, AllowedSequencesParams(TokenLists.of(sequences)))


@settings(max_examples=200, deadline=None)
@given(sequences=sequences, data=st.data())
def test_what_is_allowed(sequences: list[Tokens], data: st.DataObject) -> None:
    """After every beginning: exactly the tokens of the rule, with their scores bit for bit."""
    whole = data.draw(st.sampled_from(sequences))
    outputs = [whole[:size] for size in range(len(whole) + 1)]
    scores = distinct_scores(len(outputs), VOCAB_SIZE, seed=1)
    edited = apply_asks(AllowedSequences(), [ask(i, sequences, output) for i, output in enumerate(outputs)], scores)
    for i, output in enumerate(outputs):
        allowed = allowed_after(sequences, output, scores[i])
        assert tokens_kept(edited[i]) == allowed
        stay = sorted(allowed)
        assert same_bits(edited[i][stay], scores[i][stay])


@settings(max_examples=50, deadline=None)
@given(sequences=sequences, data=st.data())
def test_equals_transformers(sequences: list[Tokens], data: st.DataObject) -> None:
    """transformers' processor, given the rule as its function, gives the same scores."""
    prompt = (1, 2)
    whole = data.draw(st.sampled_from(sequences))
    output = whole[: data.draw(st.integers(0, len(whole)))]
    scores = distinct_scores(1, VOCAB_SIZE, seed=2)
    oracle = PrefixConstrainedLogitsProcessor(
        lambda _, ids: sorted(allowed_after(sequences, tuple(ids.tolist()[len(prompt) :]), scores[0])), num_beams=1
    )
    edited = apply_asks(AllowedSequences(), [ask(0, sequences, output)], scores)
    assert same_bits(edited, oracle(torch.tensor([[*prompt, *output]]), scores.clone()))


@settings(max_examples=150, deadline=None)
@given(sequences=sequences, data=st.data())
def test_state_follows_the_sequence(sequences: list[Tokens], data: st.DataObject) -> None:
    """Grown by any number of tokens at a time, forked, cut back, released and given to another: as if from scratch."""
    processor = AllowedSequences()
    outputs: dict[int, Tokens] = {0: ()}
    for _ in range(data.draw(st.integers(1, 12))):
        slot = data.draw(st.sampled_from(sorted(outputs)))
        action = data.draw(st.sampled_from(["grow", "grow", "fork", "cut", "release"]))
        if action == "grow":
            for _ in range(data.draw(st.integers(1, 3))):
                following = sorted(going_on(sequences, outputs[slot]))
                if following:
                    outputs[slot] = (*outputs[slot], data.draw(st.sampled_from(following)))
        elif action == "fork":
            processor.fork(slot, len(outputs))
            outputs[len(outputs)] = outputs[slot]
        elif action == "cut":
            outputs[slot] = outputs[slot][: data.draw(st.integers(0, len(outputs[slot])))]
            processor.rollback(slot, len(outputs[slot]))
        else:
            processor.release(slot)
            outputs[slot] = ()
        if data.draw(st.booleans()):  # not every row is in every step
            scores = distinct_scores(len(outputs), VOCAB_SIZE, seed=3)
            asks = [ask(i, sequences, output, slot=i) for i, output in outputs.items()]
            edited = apply_asks(processor, asks, scores)
            for i, output in outputs.items():
                assert tokens_kept(edited[i]) == allowed_after(sequences, output, scores[i])


def test_requests_with_different_sequences_share_a_batch() -> None:
    """Rows of several requests, in any mixture, with a row between them that does not ask."""
    first, second = [(1, 2), (3,)], [(3, 4), (5,)]
    scores = distinct_scores(5, VOCAB_SIZE, seed=4)
    asks = [ask(0, first, ()), ask(1, second, (3,)), ask(3, first, (1,)), ask(4, second, ())]
    edited = apply_asks(AllowedSequences(), asks, scores)
    assert [tokens_kept(edited[i]) for i in (0, 1, 3, 4)] == [{1, 3}, {4}, {2}, {3, 5}]
    assert same_bits(edited[2], scores[2])


def test_after_a_stop_token_that_did_not_end_it() -> None:
    """A sequence past the end of what is allowed may only stop, and comes back when it is cut."""
    processor = AllowedSequences()
    scores = distinct_scores(1, VOCAB_SIZE, seed=5)
    stop = max(STOPS, key=lambda token: float(scores[0, token]))
    assert tokens_kept(apply_asks(processor, [ask(0, [(1, 2), (1,)], (1, 9))], scores)[0]) == {stop}
    assert tokens_kept(apply_asks(processor, [ask(0, [(1, 2), (1,)], (1, 9, 0))], scores)[0]) == {stop}
    processor.rollback(0, 1)
    assert tokens_kept(apply_asks(processor, [ask(0, [(1, 2), (1,)], (1,))], scores)[0]) == {2, stop}


@pytest.mark.parametrize(
    ("stops", "scored", "kept_tokens"),
    [
        ((0, 9), {0: 1.0, 9: 2.0}, {9}),
        ((9, 0), {0: 1.0, 9: 1.0}, {9}),  # of equally likely ones the first
        ((0, 9, 10), {0: NEVER, 9: -50.0, 10: -60.0}, {9}),  # one that is excluded ends nothing
        ((3, 0), {3: 5.0, 0: 6.0}, {3, 0}),  # it may also be what a longer sequence goes on with
        ((), {}, {3}),
    ],
)
def test_one_stop_token_follows(stops: Tokens, scored: dict[int, float], kept_tokens: set[int]) -> None:
    """The likeliest one, so that a beam does not hold an answer once for each way to end it."""
    scores = distinct_scores(2, VOCAB_SIZE, seed=8)
    for token, score in scored.items():
        scores[:, token] = score
    params = AllowedSequencesParams(TokenLists.of([(1,), (1, 3)] if 3 in kept_tokens else [(1,)]))
    rows = [make_row(0, output=(1,), stop_token_ids=stops), make_row(1, output=(1,), stop_token_ids=(5,))]
    edited = apply_asks(AllowedSequences(), [Ask(row, params) for row in rows], scores)
    assert tokens_kept(edited[0]) == kept_tokens
    assert 5 in tokens_kept(edited[1])


def test_a_row_without_any_allowed_token() -> None:
    """What an earlier processor has excluded stays excluded, even if nothing is left: then all is -inf, never NaN."""
    scores = distinct_scores(1, VOCAB_SIZE, seed=6)
    scores[0, 1] = NEVER
    assert (apply_asks(AllowedSequences(), [ask(0, [(1, 2)], ())], scores) == NEVER).all()


def test_the_largest_token_id_and_many_sequences() -> None:
    """Ten thousand sequences: every one of them can be walked to its end."""
    many = [(a, b, c) for a in range(10) for b in range(100) for c in range(0, 100, 10)]
    params = AllowedSequencesParams(TokenLists.of(many))
    processor = AllowedSequences()
    scores = torch.zeros(3, 100)
    rows = [make_row(i, output=output, stop_token_ids=(99,)) for i, output in enumerate([(), (9,), (9, 99)])]
    edited = apply_asks(processor, [Ask(row, params) for row in rows], scores)
    assert [len(tokens_kept(row)) for row in edited] == [10, 100, 10]


def test_tries_are_kept_for_the_next_request_within_bounds() -> None:
    """Equal sequences of another request are not built again; what is kept has a limit, what is in use does not."""
    processor = AllowedSequences()
    scores = distinct_scores(1, VOCAB_SIZE, seed=7)
    apply_asks(processor, [ask(0, [(1, 2)], ())], scores)
    processor.release(0)
    apply_asks(processor, [ask(0, [(1, 2)], (), slot=5)], scores)
    assert len(processor._tries) == 1
    sequences = [(i, j) for i in range(100) for j in range(1000)]
    huge = AllowedSequencesParams(TokenLists.of(sequences))
    wide = torch.zeros(1, 1001)
    for slot in range(12):
        other = AllowedSequencesParams(TokenLists.of((*sequences[:-1], (999, 999 - slot))))
        apply_asks(processor, [Ask(make_row(0, slot=slot + 10, output=()), other)], wide)
    assert sum(trie.num_nodes for trie in processor._tries.values()) <= 1_000_000
    assert processor._num_kept_nodes == sum(trie.num_nodes for trie in processor._tries.values())
    edited = apply_asks(processor, [Ask(make_row(0, slot=10, output=(0,)), huge)], wide)
    assert len(tokens_kept(edited[0])) == 1000


@pytest.mark.parametrize(
    ("sequences", "stops", "min_tokens", "max_tokens", "param", "message"),
    [
        (((1, 2, 3),), (0,), 0, 2, "sequences", "an answer could be cut short"),
        (((1, 2), (1,)), (0,), 2, 9, "sequences", "one has 1 tokens and min_tokens is 2"),
        (((1, 2),), (), 0, 3, "sequences", "needs a stop token"),
        (((1, 2), (1, 0, 2)), (0,), 0, 9, "sequences", "has a stop token before its end"),
        (((1, 0),), (0,), 2, 9, "sequences", "one has 1 tokens and min_tokens is 2"),
    ],
)
def test_stop_conditions_that_contradict(
    sequences: tuple[Tokens, ...], stops: Tokens, min_tokens: int, max_tokens: int, param: str, message: str
) -> None:
    """Every answer could not be a whole sequence: refused before anything runs."""
    with pytest.raises(ParameterError) as caught:
        AllowedSequencesParams(TokenLists.of(sequences)).check_stop(stops, min_tokens, max_tokens)
    assert caught.value.param == param and message in caught.value.message


def test_stop_conditions_that_agree() -> None:
    """A sequence may spell out its stop token; without one the length may end every answer."""
    AllowedSequencesParams(TokenLists.of([(1, 2, 0), (1, 2)])).check_stop((0,), 2, 2)
    AllowedSequencesParams(TokenLists.of([(1, 2), (3, 4)])).check_stop((), 0, 2)


def test_it_must_stand_before_what_cuts() -> None:
    """After top-k all that is left might be excluded."""
    sequences = {"allowed_sequences": {"sequences": [[1]]}}
    with pytest.raises(ParameterError) as caught:
        read_decoding({"decoding": {"chain": [{"top_k": 2}, sequences]}}, vocab_size=VOCAB_SIZE)
    assert caught.value.param == "decoding.chain[1].allowed_sequences"
    read_decoding({"decoding": {"chain": [sequences, {"top_k": 2}]}}, vocab_size=VOCAB_SIZE)


class Letters:
    """An encoder of one token per letter, which takes an answer's first letter for another token."""

    def at_start(self, text: str) -> list[int]:
        return [1, *(ord(letter) % 10 for letter in text[1:])] if text.strip() else []

    def within(self, text: str) -> list[int]:
        raise AssertionError("an allowed text is the whole answer")

    def holding(self, text: str) -> list[int]:
        raise AssertionError("an allowed text is no part of a token")


def test_texts() -> None:
    """Texts are sequences too, tokenised as an answer's beginning; one without a tokenizer or tokens is refused."""
    fields = {"allowed_texts": ["ab", "c"], "allowed_sequences": [[5, 6]]}
    (step,) = read_decoding(fields, vocab_size=VOCAB_SIZE, encoder=Letters()).chain
    assert step.params == AllowedSequencesParams(TokenLists.of([(5, 6), (1, 8), (1,)]))
    with pytest.raises(ParameterError, match="tokenizer"):
        read_decoding(fields, vocab_size=VOCAB_SIZE)
    with pytest.raises(ParameterError, match="has no tokens"):
        read_decoding({"allowed_texts": ["a", " "]}, vocab_size=VOCAB_SIZE, encoder=Letters())


def test_ids_from_texts_are_checked_too() -> None:
    """A tokenizer may know more tokens than the model: such an id is refused, not looked up."""
    with pytest.raises(ParameterError, match="outside the vocabulary of 5"):
        read_decoding({"allowed_texts": ["ai"]}, vocab_size=5, encoder=Letters())
