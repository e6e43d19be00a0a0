"""What the sides are given to do, and how fast memory alone would let it be done. Knows no side."""

import random
from dataclasses import dataclass

from shapes import LlamaShape


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long prompts and their answers are, in tokens; one of each per prompt."""

    prompts: list[int]
    answers: list[int]

    @classmethod
    def equal(cls, count: int, prompt: int, answer: int) -> "Lengths":
        return cls([prompt] * count, [answer] * count)

    @classmethod
    def mixed(cls, count: int, shortest: int, longest: int, seed: int = 0) -> "Lengths":
        """Each length between these as likely as any other; the same for the same seed."""
        draw = random.Random(seed)
        prompts, answers = ([draw.randint(shortest, longest) for _ in range(count)] for _ in range(2))
        return cls(prompts, answers)

    @property
    def num_answer_tokens(self) -> int:
        return sum(self.answers)

    def first(self, count: int) -> "Lengths":
        return Lengths(self.prompts[:count], self.answers[:count])


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts, and the length of each one's answer in tokens."""

    prompts: list[list[int]]
    answer_lengths: list[int]

    @property
    def num_answer_tokens(self) -> int:
        return sum(self.answer_lengths)

    def first(self, count: int) -> "Work":
        return Work(self.prompts[:count], self.answer_lengths[:count])

    def singles(self) -> list["Work"]:
        return [Work([prompt], [answer]) for prompt, answer in zip(self.prompts, self.answer_lengths, strict=True)]


class Mill:
    """Fills lengths with random tokens, no two prompts alike, so that no cache of prompts helps."""

    def __init__(self, vocab_size: int, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._vocab_size = vocab_size

    def fill(self, lengths: Lengths) -> Work:
        prompts = [[self._random.randrange(1, self._vocab_size) for _ in range(length)] for length in lengths.prompts]
        return Work(prompts, lengths.answers)


def floor_rate(shape: LlamaShape, lengths: Lengths, rows: int, bandwidth: float) -> float:
    """Tokens/s if reading memory were all, with `rows` answers computed together at most; `bandwidth` in bytes/s.

    Each step reads every weight once, and the keys and values of each row. The number of steps is the least there can
    be: all of them are full, unless the longest answer takes more. Prompts are not counted, so the floor is a little
    too high to reach; weights that stay in the last-level cache from step to step can beat it.
    """
    num_tokens = lengths.num_answer_tokens
    num_steps = max(-(-num_tokens // rows), max(lengths.answers))
    # An answer's token j is computed over its prompt and the j tokens before it.
    pairs = zip(lengths.prompts, lengths.answers, strict=True)
    num_keys = sum(answer * prompt + answer * (answer - 1) // 2 for prompt, answer in pairs)
    num_bytes = num_steps * shape.weight_bytes + num_keys * shape.kv_bytes_per_token
    return num_tokens * bandwidth / num_bytes
