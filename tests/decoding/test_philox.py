"""Philox and the uniform numbers made with it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from penstock_decoding.params import MAX_SEED
from penstock_decoding.philox import Stream, philox4x32, uniforms

FALSE_ALARM = 1e-6  # of one statistical test, were its numbers drawn anew; they are fixed, so no test flickers

# Random123 1.14.0, tests/kat_vectors: philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> NDArray[np.uint64]:
    """Hexadecimal words as one column."""
    return np.array([[int(word, 16)] for word in text.split()], np.uint64)


def uniform(seed: int, sample: int, position: int, stream: Stream = Stream.TOKEN) -> float:
    """One number."""
    seeds, samples, positions = (np.array([value], np.int64) for value in (seed, sample, position))
    return float(uniforms(seeds, samples, positions, stream)[0])


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_known_answers(counter: str, key: str, answer: str) -> None:
    """The vectors published with the algorithm come out, so a kernel written elsewhere can agree with this one."""
    assert philox4x32(words(counter), words(key)).tolist() == words(answer).tolist()


def test_draws_are_independent_columns() -> None:
    """Many counters at once give what each gives alone."""
    counters = np.concatenate([words(counter) for counter, _, _ in KNOWN_ANSWERS], axis=1)
    keys = np.concatenate([words(key) for _, key, _ in KNOWN_ANSWERS], axis=1)
    answers = np.concatenate([words(answer) for _, _, answer in KNOWN_ANSWERS], axis=1)
    assert philox4x32(counters, keys).tolist() == answers.tolist()


def test_uniform_is_made_of_the_first_two_words() -> None:
    """The number is 27 bits of word 0 and 26 bits of word 1: the mapping that a replay in years to come relies on."""
    assert uniform(0, 0, 0) == ((0x6627E8D5 >> 5 << 26) | (0xE169C58D >> 6)) / 2**53


@given(
    seed=st.integers(-MAX_SEED - 1, MAX_SEED),
    sample=st.integers(0, 2**32 - 1),
    position=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_counter_and_key(seed: int, sample: int, position: int) -> None:
    """The counter is (position, sample, stream, 0), the key the seed's low and high word in two's complement."""
    seed_bits = seed % 2**64
    counter = np.array([[position], [sample], [int(Stream.TOKEN)], [0]], np.uint64)
    key = np.array([[seed_bits % 2**32], [seed_bits >> 32]], np.uint64)
    word0, word1 = (int(word) for word in philox4x32(counter, key)[:2, 0])
    number = uniform(seed, sample, position)
    assert number == ((word0 >> 5 << 26) | (word1 >> 6)) / 2**53
    assert 0 <= number < 1


@pytest.mark.parametrize("varied", ["seed", "sample", "position"])
def test_uniform_along_each_axis(varied: str) -> None:
    """100 000 numbers that differ in one argument alone are uniform and not serially correlated."""
    count = 100_000
    seeds, samples, positions = (
        np.arange(count) if name == varied else np.full(count, 3) for name in ("seed", "sample", "position")
    )
    numbers = uniforms(seeds, samples, positions)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > FALSE_ALARM
    assert stats.pearsonr(numbers[:-1], numbers[1:]).pvalue > FALSE_ALARM


def test_every_argument_counts() -> None:
    """No two of a grid of seeds (small, negative, 33-bit, extreme), samples and positions share a number."""
    seeds = (0, 1, 2, -1, -2, 2**32, 2**32 + 1, MAX_SEED, -MAX_SEED - 1)
    grid = list(itertools.product(seeds, range(5), (0, 1, 2, 1000, 2**20)))
    assert len({uniform(*point) for point in grid}) == len(grid)


def test_streams_are_unrelated() -> None:
    """A number for another purpose, at an equal counter, is another number."""
    other = uniforms(np.array([1]), np.array([2]), np.array([3]), stream=1)  # type: ignore[arg-type]  # none exists yet
    assert other[0] != uniform(1, 2, 3)


def test_sample_of_a_seed_is_not_a_later_seed() -> None:
    """Sample i of seed s is not sample 0 of seed s + i: n answers do not repeat what the next seeds would give."""
    for seed, i in itertools.product((0, 1, 41, -3, 2**53), range(1, 20)):
        assert uniform(seed, i, 5) != uniform(seed + i, 0, 5)
        assert uniform(seed, 0, 5 + i) != uniform(seed, i, 5)
