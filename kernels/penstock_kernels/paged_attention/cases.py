"""Batches to attend: decoding, prompts, chunks, mixtures, odd heads, windows, lengths on both sides of each limit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """query_lens and context_lens per sequence; heads are (query heads, key heads, head size)."""

    name: str
    query_lens: tuple[int, ...]
    context_lens: tuple[int, ...]
    heads: tuple[int, int, int] = (6, 2, 20)
    block_size: int = 4
    window: int | None = None


CASES = (
    Case("one token", (1,), (1,)),
    Case("decode", (1, 1, 1), (16, 16, 16), heads=(9, 3, 64), block_size=16),
    Case("decode, uneven", (1, 1, 1, 1), (3, 160, 17, 31)),
    Case("decode, far apart", (1,) * 6, (700, 5, 690, 1, 330, 16), block_size=16),
    Case("decode, window", (1, 1, 1), (3, 40, 13), window=13),
    Case("decode, window of one", (1, 1), (3, 40), window=1),
    Case("no grouping", (1, 1), (9, 12), heads=(3, 3, 24)),
    Case("no grouping, few queries", (2, 3, 2, 3), (9, 12, 40, 3), heads=(3, 3, 24)),
    Case("no grouping, few queries, window", (2, 3, 1), (9, 12, 40), heads=(3, 3, 24), window=5),
    Case("one key head", (1, 5), (9, 12), heads=(4, 1, 24)),
    Case("prompt", (40,), (40,)),
    Case("prompt, window", (40,), (40,), window=7),
    Case("chunk", (33,), (90,)),
    Case("chunk, window", (33,), (90,), window=20),
    Case("short chunks", (5, 5, 5), (5, 60, 33)),
    Case("short chunks, window", (5, 5, 5), (5, 60, 33), window=3),
    Case("around the sharing limit", (16, 17, 16, 17), (16, 17, 50, 51)),
    Case("mixture", (1, 1, 30, 1, 2, 30, 4), (80, 7, 30, 200, 2, 65, 4), heads=(8, 2, 16), block_size=16),
    Case("mixture, window", (1, 1, 30, 1, 2, 30, 4), (80, 7, 30, 200, 2, 65, 4), window=9),
)
