"""Where prompts come from. A source gives the prompt of a number, the same one each time and in every process.

A prompt depends on the seed, the *series* and its number. Each load of a sweep and each warm-up has a series of its
own, so that no load finds its prompts in the server's prefix cache because an earlier one sent them.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from load.vocabulary import Content, Vocabulary

# What draws are for, so that no two of them share a stream of random numbers.
_LENGTHS, _UNITS, _PREFIX, _CHOICE, _BLOCK = range(5)
# Tokens per hash id of a trace, as Mooncake's traces have it.
HASH_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent. `output_len` is None where the server's default holds; `num_tokens` None where only it knows."""

    content: Content | list[dict[str, Any]]
    output_len: int | None
    num_tokens: int | None = None


class PromptSource(Protocol):
    """Gives prompts by number."""

    def prompt(self, series: int, number: int) -> Prompt: ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens, uniform between `(1 - ratio)` and `(1 + ratio)` times the mean; ratio 0: all alike."""

    input_len: int
    output_len: int
    range_ratio: float = 0.0

    def draw(self, seed: Sequence[int]) -> tuple[int, int]:
        if self.range_ratio == 0:
            return self.input_len, self.output_len
        rng = np.random.default_rng([*seed, _LENGTHS])
        return _around(rng, self.input_len, self.range_ratio), _around(rng, self.output_len, self.range_ratio)

    @property
    def shortest_input(self) -> int:
        return max(1, math.floor(self.input_len * (1 - self.range_ratio)))


@dataclass(frozen=True, slots=True)
class RandomPrompts:
    """Prompts that share nothing but what the server itself puts before them."""

    vocabulary: Vocabulary
    lengths: Lengths
    seed: int

    def prompt(self, series: int, number: int) -> Prompt:
        key = (self.seed, series, number)
        input_len, output_len = self.lengths.draw(key)
        return _prompt(self.vocabulary, _units(self.vocabulary, input_len, (*key, _UNITS)), output_len, input_len)


@dataclass(frozen=True, slots=True)
class SharedPrefixPrompts:
    """Prompts that begin with one of `num_prefixes` prefixes of `prefix_len` tokens; `lengths` are what follows."""

    vocabulary: Vocabulary
    lengths: Lengths
    prefix_len: int
    num_prefixes: int
    seed: int

    def prompt(self, series: int, number: int) -> Prompt:
        key = (self.seed, series, number)
        input_len, output_len = self.lengths.draw(key)
        which = int(np.random.default_rng([*key, _CHOICE]).integers(self.num_prefixes))
        prefix = _draw(self.vocabulary, self.prefix_len, (self.seed, series, which, _PREFIX))
        rest = _units(self.vocabulary, input_len, (*key, _UNITS))
        return _prompt(self.vocabulary, prefix + rest, output_len, self.prefix_len + input_len)


@dataclass(frozen=True, slots=True)
class GivenPrompts:
    """The prompts of a file, in its order, from the top again when it is too short."""

    prompts: tuple[Prompt, ...]

    def prompt(self, series: int, number: int) -> Prompt:
        return self.prompts[number % len(self.prompts)]


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One line of a trace. Either `content`, or an `input_len` for which a random prompt is made.

    Equal numbers in `hash_ids` stand for equal blocks of `HASH_BLOCK` tokens.
    """

    timestamp: float
    output_len: int | None
    content: Content | None = None
    input_len: int = 0
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TracedPrompts:
    """The prompts of a trace: its own, or random ones of its lengths."""

    vocabulary: Vocabulary | None
    requests: tuple[TracedRequest, ...]
    seed: int

    def prompt(self, series: int, number: int) -> Prompt:
        request = self.requests[number % len(self.requests)]
        if request.content is not None:
            return Prompt(request.content, request.output_len)
        assert self.vocabulary is not None, "a trace with lengths is given a vocabulary"
        length = request.input_len - self.vocabulary.overhead
        blocks = (_draw(self.vocabulary, HASH_BLOCK, (self.seed, series, i, _BLOCK)) for i in request.hash_ids)
        units = list(itertools.islice(itertools.chain.from_iterable(blocks), max(0, length)))
        units += _draw(self.vocabulary, length - len(units), (self.seed, series, number, _UNITS))
        return _prompt(self.vocabulary, units, request.output_len, request.input_len)


def _around(rng: np.random.Generator, mean: int, ratio: float) -> int:
    low, high = math.floor(mean * (1 - ratio)), math.ceil(mean * (1 + ratio))
    return max(1, int(rng.integers(low, high + 1)))


def _units(vocabulary: Vocabulary, num_tokens: int, key: Sequence[int]) -> list[int]:
    """As many units as make a prompt of `num_tokens` tokens."""
    return _draw(vocabulary, num_tokens - vocabulary.overhead, key)


def _draw(vocabulary: Vocabulary, num_units: int, key: Sequence[int]) -> list[int]:
    drawn: list[int] = np.random.default_rng(list(key)).integers(vocabulary.size, size=max(0, num_units)).tolist()
    return drawn


def _prompt(vocabulary: Vocabulary, units: Sequence[int], output_len: int | None, num_tokens: int) -> Prompt:
    return Prompt(vocabulary.content(units), output_len, num_tokens)
