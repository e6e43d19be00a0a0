"""Tokens, heads and sizes for the step between projection and attention: whole and partial rotation, odd sizes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """heads are (query heads, key heads, head size); rotary_size None for no rotation."""

    name: str
    num_tokens: int
    heads: tuple[int, int, int]
    rotary_size: int | None
    with_bias: bool = False
    with_norms: bool = False
    num_slots: int = 80


CASES = (
    Case("Llama, one token", 1, (9, 3, 64), 64),
    Case("Llama", 7, (9, 3, 64), 64),
    Case("Qwen2", 5, (14, 2, 64), 64, with_bias=True),
    Case("Qwen3", 4, (6, 2, 128), 128, with_norms=True),
    Case("GPT-2", 6, (3, 3, 64), None, with_bias=True),
    Case("partial rotation", 4, (2, 1, 80), 32),
    Case("everything, odd heads", 11, (5, 1, 20), 10, with_bias=True, with_norms=True),
    Case("plain", 5, (2, 2, 24), None),
    Case("large heads", 3, (2, 1, 256), 256, with_norms=True),
)
