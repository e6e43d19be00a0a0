"""`best_continuations` for NVIDIA GPUs: each row's best as `token_logprobs` lists them, then the best of each search.

Each candidate of the lists counts how many of its search are before it. That is its place, and no two have the same, so
it writes itself there: no sort, no waiting for others. The work grows with the square of the candidates of a search, of
which a beam of width W has 2 W^2: above `MAX_CANDIDATES` two stable sorts take less time.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.best_continuations import NO_TOKEN
from penstock_kernels.best_continuations.reference import best_of_lists
from penstock_kernels.configuration import Configuration
from penstock_kernels.token_logprobs.fused import token_logprobs

MAX_CANDIDATES = 16384
"""2^28 comparisons if all are of one search, some 0.1 ms on an H100 (estimated, not measured)."""

BLOCK = 32
TILE = 128
NUM_WARPS = 4


def best_continuations(scores: Tensor, logprobs: Tensor, starts: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `BestContinuations`."""
    num_rows = len(scores)
    num_searches = len(starts) - 1
    no_tokens = torch.full_like(logprobs, -1, dtype=torch.int64)
    _, ids, own = token_logprobs(scores, no_tokens, count)
    if num_rows * count > MAX_CANDIDATES:
        return best_of_lists(ids, own, logprobs, starts)
    rows = torch.empty((num_searches, count), dtype=torch.int64, device=scores.device)
    tokens = torch.empty_like(rows)
    token_logprobs_ = torch.empty((num_searches, count), dtype=torch.float32, device=scores.device)
    if rows.numel():
        rank_kernel[(num_rows, -(-count // BLOCK))](
            ids,
            own,
            logprobs,
            starts,
            rows,
            tokens,
            token_logprobs_,
            count,
            num_searches,
            BLOCK=BLOCK,
            TILE=TILE,
            NO_TOKEN=NO_TOKEN,
            num_warps=NUM_WARPS,
        )
    return rows, tokens, token_logprobs_


@triton.jit(do_not_specialize=["logprobs", "starts", "count", "num_searches"])
def rank_kernel(
    ids,
    own,
    logprobs,
    starts,
    rows,
    tokens,
    token_logprobs,
    count,
    num_searches,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    NO_TOKEN: tl.constexpr,
):
    """The places of a block of one row's candidates. Grid: (rows, blocks)."""
    row = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < count
    mine = row * count + place  # among all candidates, row by row and in each the best first
    value = _load_logprobs(own, mine, is_there)
    sum = tl.load(logprobs + row) + value.to(tl.float64)
    search = _search_of(starts, row, num_searches, TILE)
    end = tl.load(starts + search + 1).to(tl.int32) * count
    rank = tl.zeros([BLOCK], tl.int32)
    for start in range(tl.load(starts + search).to(tl.int32) * count, end, TILE):
        other = start + tl.arange(0, TILE)
        other_value = _load_logprobs(own, other, other < end)
        other_sum = tl.load(logprobs + other // count, mask=other < end, other=0.0) + other_value.to(tl.float64)
        is_before = (other_sum[None, :] > sum[:, None]) | (
            (other_sum[None, :] == sum[:, None]) & (other[None, :] < mine[:, None])
        )
        rank += tl.sum((is_before & (other < end)[None, :]).to(tl.int32), axis=1)
    is_best = is_there & (rank < count)
    out = search * count + rank
    token = tl.where(value > -float("inf"), tl.load(ids + mine, mask=is_best, other=0), NO_TOKEN)
    tl.store(rows + out, tl.zeros([BLOCK], tl.int64) + row, mask=is_best)
    tl.store(tokens + out, token, mask=is_best)
    tl.store(token_logprobs + out, value, mask=is_best)


@triton.jit
def _load_logprobs(own, places, is_there):
    """-inf for NaN, which has no place in an order: every place is to be somebody's."""
    value = tl.load(own + places, mask=is_there, other=-float("inf"))
    return tl.where(value == value, value, -float("inf"))


@triton.jit
def _search_of(starts, row, num_searches, TILE: tl.constexpr):
    """Whose row it is: how many searches end at it or before."""
    search = tl.full([], 0, tl.int32)
    for start in range(0, num_searches, TILE):
        places = start + tl.arange(0, TILE)
        # The first search that is not there ends after every row.
        end = tl.load(starts + 1 + places, mask=places < num_searches, other=2**62)
        search += tl.sum((end <= row).to(tl.int32))
    return search


def configurations(capability: int) -> Iterator[Configuration]:
    """One."""
    types = {
        "ids": "*i64",
        "own": "*fp32",
        "logprobs": "*fp64",
        "starts": "*i64",
        "rows": "*i64",
        "tokens": "*i64",
        "token_logprobs": "*fp32",
        "count": "i32",
        "num_searches": "i32",
    }
    yield Configuration(
        op="best_continuations",
        name="rank",
        kernel=rank_kernel,
        types=types,
        constants={"BLOCK": BLOCK, "TILE": TILE, "NO_TOKEN": NO_TOKEN},
        num_warps=NUM_WARPS,
        num_stages=3,
        aligned=frozenset(types) - {"logprobs", "starts", "count", "num_searches"},
    )
