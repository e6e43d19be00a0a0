"""The best ids of each row where many are asked for: what is above the last one's score, and the first that equal it.

torch selects the score. It leaves open which of several equal ones it takes, so only the score counts: two passes list
what is above it and as many of its equals, those with the lowest ids, as there is room for, each in the order of ids. A
stable sort of the list, which is no longer than asked for, keeps this order among equals.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.token_logprobs.fused.rows import CHUNK, MAX_CHUNKS, load_chunk

NUM_WARPS = 8


def best_ids(scores: Tensor, count: int) -> Tensor:
    """[rows, count] int64, best first; of equal scores the lower id first. Nothing waits for the device."""
    num_rows, vocab = scores.shape
    # Zeros, since in a row with NaN nothing equals the last score, and what stands here is taken for ids below.
    ids = torch.zeros((num_rows, count), dtype=torch.int64, device=scores.device)
    if num_rows == 0:
        return ids
    num_chunks = -(-vocab // CHUNK.value)
    last = scores.topk(count, dim=-1, sorted=False).values.amin(-1)
    above = torch.empty((num_rows, num_chunks), dtype=torch.int32, device=scores.device)
    equal = torch.empty_like(above)
    grid = (num_chunks, num_rows)
    count_kernel[grid](scores, last, above, equal, vocab, num_warps=NUM_WARPS)
    list_kernel[grid](scores, last, above, equal, ids, vocab, count, num_warps=NUM_WARPS)
    best_first = scores.gather(-1, ids).sort(dim=-1, descending=True, stable=True).indices
    return ids.gather(-1, best_first)


@triton.jit
def count_kernel(scores, last, above, equal, vocab):
    """How many scores of a chunk are above the row's last one, and how many equal it. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    score, _, is_there = load_chunk(scores, row, chunk, vocab)
    lowest = tl.load(last + row)
    place = row * tl.num_programs(0) + chunk
    tl.store(above + place, tl.sum((score > lowest).to(tl.int32)))
    tl.store(equal + place, tl.sum(((score == lowest) & is_there).to(tl.int32)))


@triton.jit(do_not_specialize=["count"])
def list_kernel(scores, last, above, equal, ids, vocab, count):
    """Writes the ids of a chunk to their places: those above the last score first, then its equals. Grid: as above."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    num_chunks = tl.num_programs(0)
    chunks = tl.arange(0, MAX_CHUNKS)
    num_above = tl.load(above + row * num_chunks + chunks, mask=chunks < num_chunks, other=0)
    num_equal = tl.load(equal + row * num_chunks + chunks, mask=chunks < num_chunks, other=0)
    above_start = tl.sum(tl.where(chunks < chunk, num_above, 0))
    equal_start = tl.sum(num_above) + tl.sum(tl.where(chunks < chunk, num_equal, 0))
    score, own_ids, is_there = load_chunk(scores, row, chunk, vocab)
    lowest = tl.load(last + row)
    is_above = score > lowest
    is_equal = (score == lowest) & is_there
    above_place = above_start + tl.cumsum(is_above.to(tl.int32)) - 1
    equal_place = equal_start + tl.cumsum(is_equal.to(tl.int32)) - 1
    place = tl.where(is_above, above_place, equal_place)
    tl.store(ids + row.to(tl.int64) * count + place, own_ids.to(tl.int64), mask=(is_above | is_equal) & (place < count))


def configurations() -> Iterator[Configuration]:
    """Each kernel for vocabularies that are a multiple of 16 and for others."""
    all_types = {
        "scores": "*fp32",
        "last": "*fp32",
        "above": "*i32",
        "equal": "*i32",
        "ids": "*i64",
        "vocab": "i32",
        "count": "i32",
    }
    for is_multiple in (True, False):
        for kernel in (count_kernel, list_kernel):
            types = {name: all_types[name] for name in kernel.arg_names}
            unaligned = {"count"} if is_multiple else {"count", "vocab"}
            yield Configuration(
                op="token_logprobs",
                name=f"{kernel.__name__.removesuffix('_kernel')}, {'vocab % 16 == 0' if is_multiple else 'any vocab'}",
                kernel=kernel,
                types=types,
                constants={},
                num_warps=NUM_WARPS,
                num_stages=3,
                aligned=frozenset(types) - unaligned,
            )
