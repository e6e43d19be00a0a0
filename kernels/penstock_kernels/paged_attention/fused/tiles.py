"""How large the tiles are, for each head size and dtype: the table that launchers and `configurations` read.

Not timed yet; from shared memory, registers and what the matrix units take:
  - On sm_90 a warp group of 4 warps multiplies 64 rows in one instruction (wgmma), so 64 rows are the least that take
    it. While decoding most of them are empty: a tile of 64 keys of head size 128 is 32 KiB, 1.3 us of an SM's share of
    bandwidth, against 0.3 us of multiplication. Shorter tiles would take mma.sync, with other bits than a prompt's.
  - With many queries 128 rows on 8 warps read each tile of keys from shared memory half as often.
  - A row's bits are the same in both. Each of 4 or 8 warps has whole rows, 16 of each 64, and the same BLOCK_N. That is
    why BLOCK_N depends on nothing but the head size and the dtype.
  - A tile of float32 is half as many keys. It is multiplied without matrix units (tf32 has 10 bits): for tests only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

# Rows of a tile for sequences with few queries, and with many. A step is planned before its dtype is known.
FEW_ROWS = 64
MANY_ROWS = 128
# A head of 256 has twice the accumulators: its tiles stay at 64 rows, on 8 warps.
MANY_ROWS_OF_LARGE_HEADS = 64

# Compiled and tried. Others work too: they are padded to a power of two from 16 on.
HEAD_SIZES = (64, 80, 96, 128, 256)
LARGEST_HEAD_SIZE = 256

# Rows that the last program to arrive merges at a time: 8 query heads of a key head are common.
COMBINE_ROWS = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows, keys, and how to compile."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


def head_pad(head_size: int) -> int:
    """The next power of two, at least what a matrix instruction takes."""
    return max(16, 1 << (head_size - 1).bit_length())


def combine_splits(head_size: int, *, has_extras: bool) -> int:
    """Splits that it merges at a time, with their loads in flight together. With twice as many, registers spill."""
    return 4 if head_size <= 128 and not has_extras else 2


def num_rows(head_size: int, *, whole: bool) -> int:
    """Rows of a tile whose splits one program walks (`whole`), or many share."""
    if not whole:
        return FEW_ROWS
    return MANY_ROWS if head_size <= 128 else MANY_ROWS_OF_LARGE_HEADS


def tile(head_size: int, dtype: torch.dtype, *, whole: bool) -> Tile:
    """The tile for a model's dtype."""
    rows = num_rows(head_size, whole=whole)
    is_large = head_size > 128
    if dtype == torch.float32:
        return Tile(rows, 32, 8 if is_large or rows == MANY_ROWS else 4, 1)
    return Tile(rows, 32 if is_large else 64, 8 if is_large or rows == MANY_ROWS else 4, 3)


# What a cache may hold on a GPU, by the model's dtype; float8 needs sm_89. Float32 is there to be compared with: its
# kernels for smaller caches spill up to two kilobytes of registers, and who wants a small cache has a small model.
CACHE_DTYPES: Mapping[torch.dtype, tuple[torch.dtype, ...]] = {
    torch.float32: (torch.float32,),
    torch.float16: (torch.float16, torch.int8, torch.float8_e4m3fn),
    torch.bfloat16: (torch.bfloat16, torch.int8, torch.float8_e4m3fn),
}
FLOAT8_CAPABILITY = 89
