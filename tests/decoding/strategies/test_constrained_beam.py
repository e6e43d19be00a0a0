"""`ConstrainedBeam` against every sequence there is, over small vocabularies."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from search_driver import Rows, SearchRun, Tokens, random_table
from slow_words import beginnings, holds, num_missing, progress

from penstock_decoding.errors import NoAnswer, ParameterError
from penstock_decoding.finish import Finish
from penstock_decoding.strategies.beam import Beam, BeamParams
from penstock_decoding.strategies.beam_pool import EarlyStopping
from penstock_decoding.strategies.constrained_beam import ConstrainedBeam, ConstrainedBeamParams
from penstock_decoding.strategies.required_words import Word
from penstock_decoding.strategy import StopRule

STOP = 0
VOCAB_SIZE = 4
EVERYTHING = 4**5  # wider than there are hypotheses

forms = st.lists(st.integers(1, VOCAB_SIZE - 1), min_size=1, max_size=3).map(tuple)
groups = st.lists(st.lists(forms, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)


def run(params: ConstrainedBeamParams, table: Rows, max_tokens: int, min_tokens: int = 0) -> SearchRun:
    search = SearchRun(ConstrainedBeam(params), table, StopRule(np.array([STOP]), min_tokens, max_tokens))
    search.finish()
    return search


def answers(search: SearchRun) -> list[tuple[Tokens, float]]:
    """Tokens and score of each answer, in the order of their index."""
    told = [search.answers[choice] for choice in sorted(search.answers)]
    assert all(answer.finish != Finish.OPEN for answer in told)
    return [(tuple(answer.tokens), answer.score) for answer in told]


def every_answer(
    words: Sequence[Word], table: Rows, max_tokens: int, min_tokens: int, length_penalty: float
) -> list[tuple[float, Tokens]]:
    """Every sequence that ends as an answer may and holds all words, best first."""
    found = []
    beginnings: list[tuple[Tokens, float]] = [((), 0.0)]
    for length in range(1, max_tokens + 1):
        going = []
        rows = [table([text])[0] for text, _ in beginnings]
        for (text, logprob), row in zip(beginnings, rows, strict=True):
            for token in range(VOCAB_SIZE):
                longer, total = (*text, token), logprob + float(row[token])
                ends = length == max_tokens or (token == STOP and length > min_tokens)
                if not ends:
                    going.append((longer, total))
                elif all(holds(longer, word) for word in words) and total > -np.inf:
                    found.append((total / length**length_penalty, longer))
        beginnings = going
    return sorted(found, key=lambda answer: -answer[0])


@settings(max_examples=60, deadline=None)
@given(
    groups=groups,
    seed=st.integers(0, 2**20),
    max_tokens=st.integers(1, 5),
    min_tokens=st.integers(0, 2),
    length_penalty=st.sampled_from([-1.0, 0.0, 0.7, 1.0, 2.0]),
    early_stopping=st.sampled_from([False, "never"]),
)
def test_a_beam_that_holds_everything_finds_the_best(
    groups: tuple[tuple[Tokens, ...], ...],
    seed: int,
    max_tokens: int,
    min_tokens: int,
    length_penalty: float,
    early_stopping: EarlyStopping,
) -> None:
    """Exactly the best of all sequences with the words, in order; words overlap, repeat, lie in each other."""
    table = random_table(VOCAB_SIZE, seed)
    params = ConstrainedBeamParams(EVERYTHING, (), groups, (), 7, length_penalty, early_stopping)
    expected = every_answer(groups, table, max_tokens, min_tokens, length_penalty)[:7]
    if not expected:
        with pytest.raises(NoAnswer):
            run(params, table, max_tokens, min_tokens)
        return
    found = answers(run(params, table, max_tokens, min_tokens))
    assert [score for _, score in found] == pytest.approx([score for score, _ in expected], abs=1e-5)
    assert [tokens for tokens, _ in found] == [tokens for _, tokens in expected]


@settings(max_examples=150, deadline=None)
@given(
    groups=groups,
    seed=st.integers(0, 2**20),
    width=st.integers(1, 6),
    more=st.integers(0, 3),
    early_stopping=st.sampled_from([True, False, "never"]),
)
def test_every_answer_holds_every_word(
    groups: tuple[tuple[Tokens, ...], ...], seed: int, width: int, more: int, early_stopping: EarlyStopping
) -> None:
    """However narrow the beam: as soon as the words fit one after the other there is an answer, and each answer
    holds all words, comes once, and has the score that its tokens' log-probabilities give."""
    table = random_table(VOCAB_SIZE, seed, spread=3.0)
    max_tokens = sum(min(map(len, group)) for group in groups) + more
    params = ConstrainedBeamParams(width, (), groups, n=width, early_stopping=early_stopping)
    search = run(params, table, max_tokens)
    found = answers(search)
    assert 1 <= len(found) <= width and search.most_live <= width
    assert len({tokens for tokens, _ in found}) == len(found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    for tokens, score in found:
        assert all(holds(tokens, group) for group in groups)
        assert STOP not in tokens[:-1] and (tokens[-1] == STOP or len(tokens) == max_tokens)
        logprob = sum(float(table([tokens[:i]])[0][token]) for i, token in enumerate(tokens))
        assert score == pytest.approx(logprob / len(tokens), abs=1e-5)


def slow_step(
    beam: dict[Tokens, float],
    drawn: dict[Tokens, list[tuple[int, float]]],
    words: Sequence[Word],
    width: int,
    left: int,
) -> tuple[dict[Tokens, float], dict[Tokens, float]]:
    """The texts that go on and those that are complete, from the tokens drawn for each; `left`: tokens after this."""
    banks: dict[int, list[tuple[float, Tokens]]] = {}
    for text, logprob in beam.items():
        for token, own in dict(drawn[text]).items():
            longer = (*text, token)
            missing = max(num_missing(word, longer) for word in words)
            if own > -np.inf and missing <= (0 if token == STOP else left):
                banks.setdefault(progress(words, longer), []).append((logprob + own, longer))
    going: list[tuple[int, int, float, Tokens]] = []
    complete = {}
    for bank, candidates in banks.items():
        candidates.sort(reverse=True)
        num_open = 0
        for rank, (logprob, text) in enumerate(candidates):
            if left and text[-1] != STOP:
                going.append((num_open, -bank, logprob, text))
                num_open += 1
            elif rank < width:
                complete[text] = logprob
    return {text: logprob for _, _, logprob, text in sorted(going)[:width]}, complete


@settings(max_examples=150, deadline=None)
@given(groups=groups, seed=st.integers(0, 2**20), width=st.integers(1, 7), max_tokens=st.integers(3, 9))
def test_each_step_is_the_rule(groups: tuple[tuple[Tokens, ...], ...], seed: int, width: int, max_tokens: int) -> None:
    """However narrow: at every step exactly the hypotheses of the rule, read slowly, go on or are complete."""
    table = random_table(9, seed)
    strategy = ConstrainedBeam(ConstrainedBeamParams(width, (), groups, n=width, early_stopping="never"))
    search = SearchRun(strategy, table, StopRule(np.array([STOP]), 0, max_tokens))
    beam: dict[Tokens, float] = {(): 0.0}
    words = tuple(dict.fromkeys(groups))
    for length in range(1, max_tokens + 1):
        drawn = {}
        for text in beam:
            row = table([text])[0]
            unmet = [word for word in words if not holds(text, word)]
            named = {form[size] for word in unmet for form in word for size in beginnings(form, text)}
            best = np.argsort(-row, kind="stable")[: max(2, 2 * width)].tolist()
            drawn[text] = [(token, float(row[token])) for token in (*best, *named)]
        beam, complete = slow_step(beam, drawn, words, width, max_tokens - length)
        rows = search.rows
        try:
            branches = search.step()
        except NoAnswer:
            assert not beam and not complete
            return
        ended = branches.finish != Finish.OPEN
        told = zip(branches.parent[ended].tolist(), branches.token[ended].tolist(), strict=True)
        assert sorted((*rows[parent], token) for parent, token in told) == sorted(complete)
        if not search.rows:  # the best answers are known before the beam is empty
            return
        assert sorted(search.rows) == sorted(beam)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_words_that_everything_holds_are_plain_beam_search(
    seed: int, width: int, early_stopping: EarlyStopping
) -> None:
    """If any first token meets the word there is one bank from then on: the same answers as the strategy `beam`."""
    free = random_table(9, seed)

    def table(rows: list[Tokens]) -> NDArray[np.float32]:
        scores = free(rows)
        scores[[i for i, row in enumerate(rows) if not row], STOP] = -np.inf  # an empty answer holds no word
        return scores

    stop = StopRule(np.array([STOP]), 0, 7)
    plain = SearchRun(Beam(BeamParams(width, width, 0.8, early_stopping)), table, stop)
    plain.finish()
    anything = tuple((token,) for token in range(1, 9))
    params = ConstrainedBeamParams(width, (), (anything,), (), width, 0.8, early_stopping)
    assert answers(run(params, table, max_tokens=7)) == answers(plain)


def test_a_word_enters_where_it_costs_least() -> None:
    """The word is unlikely at once and likely after token 2: a beam of two waits for it."""

    def table(rows: list[Tokens]) -> NDArray[np.float32]:
        probability = [[0.05, 0.6, 0.05, 0.3] if row and row[-1] == 2 else [0.2, 0.01, 0.7, 0.09] for row in rows]
        return np.log(np.asarray(probability, np.float32))

    ((tokens, _),) = answers(run(ConstrainedBeamParams(2, ((1,),)), table, max_tokens=3))
    assert tokens[:2] == (2, 1)


def test_a_stop_token_or_the_length_completes_nothing_without_the_words() -> None:
    """A model that wants to end at once is made to say the words first; one that cannot say them has no answer."""

    def eager(rows: list[Tokens]) -> NDArray[np.float32]:
        return np.log(np.tile(np.asarray([0.97, 0.01, 0.01, 0.01], np.float32), (len(rows), 1)))

    ((tokens, _),) = answers(run(ConstrainedBeamParams(3, ((1, 2), (3,))), eager, max_tokens=9))
    assert tokens[-1] == STOP and sorted(tokens[:-1]) == [1, 2, 3]

    def without_three(rows: list[Tokens]) -> NDArray[np.float32]:
        scores = eager(rows)
        scores[:, 3] = -np.inf
        return scores

    with pytest.raises(NoAnswer):
        run(ConstrainedBeamParams(3, ((1, 2), (3,))), without_three, max_tokens=9)
    with pytest.raises(NoAnswer):
        run(ConstrainedBeamParams(3, ((1, 2, 1),)), eager, max_tokens=2)


def test_the_common_beginning_is_told_while_the_search_is_open() -> None:
    """What all hypotheses share is answer 0's already: it is told step by step, not at the end."""

    def certain(rows: list[Tokens]) -> NDArray[np.float32]:
        scores = np.full((len(rows), VOCAB_SIZE), -np.inf, np.float32)
        scores[:, 2] = 0.0
        scores[[i for i, row in enumerate(rows) if len(row) >= 3]] = np.log(np.float32(0.25))
        return scores

    search = run(ConstrainedBeamParams(2, ((1,),), n=2), certain, max_tokens=6)
    assert search.answers[0].tokens[:3] == [2, 2, 2]
    assert search.answers[0].steps[:2] == [1, 2]
    assert search.answers[1].steps[0] == search.num_steps


def test_dropping_all_answers_ends_the_rows() -> None:
    """A caller that wants none of the answers frees all rows; one that wants some frees none."""
    strategy = ConstrainedBeam(ConstrainedBeamParams(3, ((1,),), n=2))
    search = SearchRun(strategy, random_table(VOCAB_SIZE, 1), StopRule(np.array([STOP]), 0, 9))
    search.step()
    assert strategy.drop(1) == []
    assert strategy.drop(0) == list(range(len(search.rows)))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"width": 0}, "width"),
        ({"width": 4097}, "width"),
        ({"width": 2, "n": 3}, "n"),
        ({"length_penalty": 10.5}, "length_penalty"),
        ({"words": ()}, "words"),
        ({"words": ((1,),) * 33}, "words"),
        ({"words": ((),)}, "words"),
        ({"words": ((1,) * 33,)}, "words"),
        ({"words": ((1,) * 32,) * 9}, "words"),
        ({"any_of": ((),)}, "any_of[0]"),
        ({"any_of": (((1,), ()),)}, "any_of"),
        ({"texts": ("",)}, "texts[0]"),
        ({"texts": ("ok", "x" * 257)}, "texts[1]"),
        ({"texts": ("x",) * 32}, "words"),
    ],
    ids=repr,
)
def test_ranges(params: dict[str, object], field: str) -> None:
    """Each parameter has its bounds, and the words have some in all."""
    with pytest.raises(ParameterError) as caught:
        ConstrainedBeamParams(**({"width": 4, "words": ((1,),)} | params))  # type: ignore[arg-type]
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("words", "any_of", "stops", "max_tokens", "message"),
    [
        (((1, 2, 3),), (), (0,), 2, "need at least 3 tokens, and max_tokens is 2"),
        (((1, 2), (3, 4)), (), (0,), 3, "need at least 4 tokens, and max_tokens is 3"),
        ((), (((1, 2, 3), (4, 5)),), (0,), 1, "need at least 2 tokens, and max_tokens is 1"),
        (((1, 7),), (), (0, 7), 9, "one has the token 7, which ends an answer"),
    ],
)
def test_words_that_cannot_be_said(
    words: tuple[Tokens, ...], any_of: tuple[tuple[Tokens, ...], ...], stops: Tokens, max_tokens: int, message: str
) -> None:
    """Words that no answer could hold are refused before anything runs."""
    with pytest.raises(ParameterError) as caught:
        ConstrainedBeamParams(2, words, any_of).check_stop(stops, 0, max_tokens)
    assert (caught.value.param, caught.value.message) == ("words", message)


def test_words_that_can_be_said_are_not_refused() -> None:
    """Overlapping words need fewer tokens than they have together; of alternatives the shortest counts."""
    ConstrainedBeamParams(2, ((1, 2), (2, 3)), (((4,), (5, 6, 7, 8)),)).check_stop((0,), 0, 3)
    ConstrainedBeamParams(2, ((1, 2),)).check_stop((), 0, 2)


class Letters:
    """An encoder of one token per letter; a space is 32."""

    def at_start(self, text: str) -> list[int]:
        raise AssertionError("a word may stand anywhere in the answer")

    def within(self, text: str) -> list[int]:
        return [ord(letter) for letter in text if letter.isascii()]

    def holding(self, text: str) -> list[int]:
        raise AssertionError("a word is no part of a token")


def test_texts_are_words_with_or_without_a_space() -> None:
    """A text becomes a group of its two forms; one that begins with a space has just that one."""
    params = ConstrainedBeamParams(4, ((7,),), (((8,), (9,)),), ("ab", " c"), 2, 0.5, True).with_token_ids(Letters())
    ab, spaced_ab, spaced_c = (97, 98), (32, 97, 98), (32, 99)
    assert params == ConstrainedBeamParams(4, ((7,),), (((8,), (9,)), (spaced_ab, ab), (spaced_c,)), (), 2, 0.5, True)
    assert not params.has_texts


@pytest.mark.parametrize("text", ["\t\u00e4", "a" * 33], ids=["empty", "long"])
def test_texts_that_are_no_words(text: str) -> None:
    """A text without tokens, or with too many, is refused as the text it is."""

    class Narrow(Letters):
        def within(self, text: str) -> list[int]:
            return [ord(letter) for letter in text if letter == "a"]

    with pytest.raises(ParameterError) as caught:
        ConstrainedBeamParams(4, texts=("a", text)).with_token_ids(Narrow())
    assert caught.value.param.startswith("texts")
