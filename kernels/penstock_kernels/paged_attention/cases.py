"""Batches to attend: decoding, prompts, chunks, mixtures, odd heads, windows, lengths on both sides of each limit."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Case:
    """query_lens and context_lens per sequence; heads are (query heads, key heads, head size).

    shared: leading keys in blocks that all sequences have in common. stored: what the cache holds, None for the model's
    own dtype.
    """

    name: str
    query_lens: tuple[int, ...]
    context_lens: tuple[int, ...]
    heads: tuple[int, int, int] = (6, 2, 20)
    block_size: int = 4
    window: int | None = None
    soft_cap: float | None = None
    alibi: bool = False
    stored: torch.dtype | None = None
    shared: int = 0


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
    Case("soft cap", (1, 9), (33, 20), soft_cap=2.0),
    Case("soft cap, window", (1, 9, 1), (33, 20, 5), window=8, soft_cap=2.0),
    Case("slopes", (1, 9, 20), (33, 20, 45), alibi=True),
    Case("head size 80", (1, 5), (40, 70), heads=(2, 2, 80), block_size=32),
    Case("head size 96", (1, 5), (40, 70), heads=(4, 2, 96), block_size=64),
    Case("head size 128", (1, 5), (40, 70), heads=(8, 1, 128), block_size=128),
    Case("head size 256", (1, 5), (40, 70), heads=(4, 1, 256), block_size=16),
    Case("more heads than a tile has rows", (1, 2), (40, 7), heads=(71, 1, 16), block_size=16),
    Case("int8", (1, 9), (70, 20), stored=torch.int8),
    Case("float8", (1, 9), (70, 20), stored=torch.float8_e4m3fn),
    Case("int8, everything", (1, 9), (70, 20), window=11, soft_cap=3.0, alibi=True, stored=torch.int8),
    Case("a split and one key", (1, 3), (513, 514), block_size=16),
    Case("at the ends of splits", (1, 1, 1), (512, 1024, 1025), heads=(2, 1, 16), block_size=128),
    Case("shared prefix", (1,) * 5, (530, 512, 1100, 700, 1024), heads=(2, 1, 16), block_size=16, shared=512),
    Case(
        "shared prefix, window",
        (1,) * 4,
        (1030, 1040, 1100, 1700),
        heads=(4, 2, 16),
        block_size=16,
        window=900,
        shared=1024,
    ),
)
