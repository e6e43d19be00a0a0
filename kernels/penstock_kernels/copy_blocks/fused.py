"""Copies of cache blocks in Triton: one launch for all layers and all pairs.

A program owns a piece of the block, the same words of every block of one layer. It reads that piece of all sources
before it writes that of any destination, and no other program touches it: so a block may be source and destination at
once, in chains and in swaps, without a copy of everything in between.

Bits are copied as words of 32 whatever they stand for.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.copy_blocks import reference
from penstock_kernels.triton_types import TRITON_TYPES

# How many pairs a program has room for, and words of each: at least 16 bytes together, and 32 words in flight a thread.
_PIECES = {1: 1024, 8: 1024, 64: 128, 512: 16, 2048: 4}
_NUM_WARPS = 8


def copy_blocks(storage: Tensor, sources: Tensor, destinations: Tensor) -> None:
    """See `CopyBlocks`."""
    num_pairs = len(sources)
    if num_pairs == 0 or storage.numel() == 0:
        return
    if num_pairs > max(_PIECES):
        # More than a program can hold: by way of a copy of them all.
        reference.copy_blocks(storage, sources, destinations)
        return
    num_layers, num_blocks = storage.shape[:2]
    blocks = storage.view(num_layers, num_blocks, -1)
    bytes_per_block = blocks.shape[2] * blocks.element_size()
    in_words = bytes_per_block % 4 == 0 and blocks.data_ptr() % 4 == 0
    blocks = blocks.view(torch.int32 if in_words else torch.int8)
    pairs = next(room for room in _PIECES if num_pairs <= room)
    words_per_block = blocks.shape[2]
    _copy_blocks[(triton.cdiv(words_per_block, _PIECES[pairs]), num_layers)](
        blocks,
        sources,
        destinations,
        sources.stride(0),
        destinations.stride(0),
        num_pairs,
        num_blocks,
        words_per_block,
        PAIRS=pairs,
        WORDS=_PIECES[pairs],
        num_warps=_NUM_WARPS,
    )


@triton.jit(
    do_not_specialize=["source_stride", "destination_stride", "num_pairs", "num_blocks"],
    do_not_specialize_on_alignment=["sources", "destinations"],
)
def _copy_blocks(
    storage,
    sources,
    destinations,
    source_stride,
    destination_stride,
    num_pairs,
    num_blocks,
    words_per_block,
    PAIRS: tl.constexpr,
    WORDS: tl.constexpr,
):
    # 64 bits: a cache has more than 2^31 words.
    first_block = tl.program_id(1).to(tl.int64) * num_blocks
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    pair = tl.arange(0, PAIRS)
    present = pair < num_pairs
    inside = present[:, None] & (word < words_per_block)[None, :]
    source = first_block + tl.load(sources + pair * source_stride, mask=present, other=0)
    destination = first_block + tl.load(destinations + pair * destination_stride, mask=present, other=0)

    words = tl.load(storage + (source * words_per_block)[:, None] + word[None, :], mask=inside)
    # One thread's destination is another's source: all have read before one writes.
    tl.debug_barrier()
    tl.store(storage + (destination * words_per_block)[:, None] + word[None, :], words, mask=inside)


def configurations(capability: int) -> Iterator[Configuration]:
    """All of `copy_blocks`. Blocks of no multiple of 16 words compile to the same code with narrower accesses."""
    for word in (torch.int32, torch.int8):
        for pairs, words in _PIECES.items():
            yield Configuration(
                op="copy_blocks",
                name=f"{TRITON_TYPES[word]} up to {pairs} pairs",
                kernel=_copy_blocks,
                types={
                    "storage": f"*{TRITON_TYPES[word]}",
                    "sources": "*i64",
                    "destinations": "*i64",
                    "source_stride": "i32",
                    "destination_stride": "i32",
                    "num_pairs": "i32",
                    "num_blocks": "i32",
                    "words_per_block": "i32",
                },
                constants={"PAIRS": pairs, "WORDS": words},
                num_warps=_NUM_WARPS,
                num_stages=3,
                aligned=frozenset({"storage", "words_per_block"} if word == torch.int32 else {"storage"}),
            )
