"""Paged attention of one layer: decoding, which reads keys and values, and prompts, which compute.

Blocks are scattered over the cache, as they are after some time of serving. The peers in torch get the same keys and
values as contiguous tensors, gathered beforehand: what they would need to serve from a paged cache is not counted.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kernels.contest import Contest, Goal, Scale, Side, Step, Tables, sides_of
from kernels.inputs import compiled, model_dtype, name_of, normal
from model_shapes import MODELS, TINY
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from penstock_kernels import AttentionBatch, Kernels
from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_kernels.paged_attention import AttentionRule, AttentionShape
from penstock_models.spec import ModelSpec

BLOCK_SIZE = 16
# Bytes of keys and values of which a step finds nothing in a cache: five times an H100's.
COLD_BYTES = 256 * 2**20
# Larger batches would take the reference gigabytes and seconds.
REFERENCE_KEYS = 2**16
REFERENCE_QUERIES = 2048
SUFFIX = 64
DECODE_GOAL = Goal("share", 0.85)
PREFILL_GOAL = Goal("operations_per_second", 450e12)


@dataclass(frozen=True, slots=True)
class Work:
    """What a step attends: `num_rows` sequences of `context` keys, of which `num_new` are new in each.

    with_flex: whether FlexAttention takes part, which compiles for ten seconds.
    beams: how many neighbouring rows have all keys but their last `SUFFIX` in common, as the beams of a search have.
    kv_dtype: of the cache; None for that of the queries.
    """

    num_rows: int
    context: int
    num_new: int = 1
    with_flex: bool = False
    beams: int = 1
    kv_dtype: torch.dtype | None = None

    @property
    def is_prompt(self) -> bool:
        return self.num_new == self.context

    @property
    def num_distinct_keys(self) -> int:
        """Of all rows, those in common counted once."""
        in_common = self.context - SUFFIX if self.beams > 1 else 0
        return self.num_rows * (self.context - in_common) + self.num_rows // self.beams * in_common


def decode(num_rows: int, context: int, with_flex: bool = False) -> Work:
    return Work(num_rows, context, with_flex=with_flex)


def beams(num_searches: int, width: int, context: int) -> Work:
    return Work(num_searches * width, context, beams=width)


def prompt(num_tokens: int, with_flex: bool = False) -> Work:
    return Work(1, num_tokens, num_tokens, with_flex)


# In the order of importance: a run may be cut short.
WORK: Mapping[Scale, tuple[Work, ...]] = {
    "full": (
        decode(8, 4096, with_flex=True),
        prompt(8192, with_flex=True),
        *(decode(num_rows, 4096) for num_rows in (64, 256, 1)),
        *(decode(num_rows, 1024) for num_rows in (64, 256, 8, 1)),
        beams(32, 8, 1024 + SUFFIX),
        *(prompt(num_tokens) for num_tokens in (2048, 32_768, 512)),
        *(Work(64, 4096, kv_dtype=kv_dtype) for kv_dtype in (torch.int8, torch.float8_e4m3fn)),
        *(decode(num_rows, 32_768) for num_rows in (8, 64, 1, 256)),
        *(decode(num_rows, 128) for num_rows in (1, 8, 64, 256)),
    ),
    "quick": (decode(8, 4096), prompt(8192), decode(64, 4096), decode(256, 1024), decode(1, 4096)),
    "tiny": (decode(3, 33), prompt(21), beams(1, 2, 16 + SUFFIX), Work(3, 33, kv_dtype=torch.int8)),
}


def contests(tables: Tables, scale: Scale, device: torch.device) -> Iterator[Contest]:
    models = {"tiny": TINY} if scale == "tiny" else MODELS
    for work in WORK[scale]:
        for name, spec in sorted(models.items(), key=lambda item: -item[1].query_size):
            yield _contest(tables, name, spec, work, device)


def _contest(tables: Tables, model: str, spec: ModelSpec, work: Work, device: torch.device) -> Contest:
    dtype = model_dtype(device)
    kv_dtype = work.kv_dtype or dtype
    token_bytes = 2 * spec.key_size * kv_dtype.itemsize
    if kv_dtype in QUANTISED_PEAKS:
        token_bytes += 2 * spec.num_kv_heads * torch.float32.itemsize
    num_keys = work.num_rows * work.context
    num_queries = work.num_rows * work.num_new
    kind = "prompt of" if work.is_prompt else f"decode {work.num_rows} x"
    also = f", {work.beams} beams share all but {SUFFIX}" if work.beams > 1 else ""
    also += f", KV {str(work.kv_dtype).removeprefix('torch.')}" if work.kv_dtype else ""
    # Each query of a prompt sees half of the keys on average; both products count.
    pairs = num_queries * (work.context + 1) // 2 if work.is_prompt else num_keys
    size = f"{model}, {kind} {work.context} {name_of(dtype)}{also}"
    num_bytes = work.num_distinct_keys * token_bytes + 2 * num_queries * spec.query_size * dtype.itemsize
    goal = None
    if work.is_prompt and work.context == 8192:
        goal = PREFILL_GOAL
    elif work.num_rows >= 8 and work.context >= 4096 and work.kv_dtype is None:
        goal = DECODE_GOAL
    sides: dict[str, Side] = {}
    not_run: dict[str, str] = {}
    if fits(num_keys * token_bytes, device):
        pool = _Pool(spec, work, dtype, device)
        if work.kv_dtype is not None:
            pass  # no peer in torch reads a quantised cache
        elif fits(num_keys * token_bytes, device):
            sides["SDPA"] = lambda: _peer(pool, _sdpa)
            if work.with_flex:
                flex = functools.cache(lambda: _flex(work, device))
                sides["FlexAttention"] = lambda: _peer(pool, flex())
        else:
            not_run["SDPA"] = "its copy of the keys and values does not fit beside the cache"
        is_small = num_keys <= REFERENCE_KEYS and work.num_new <= REFERENCE_QUERIES
        ours = {name: kernels for name, kernels in tables.items() if name != "reference" or is_small}
        sides |= sides_of(ours, lambda kernels: _ours(kernels, pool), "plan_attention", "paged_attention")
        if work.beams > 1 and "fused" in tables:
            sides["fused, nothing shared"] = lambda: _ours(_without_sharing(tables["fused"]), pool)
    else:
        not_run = {name: f"{num_keys * token_bytes / 1e9:.0f} GB of keys and values do not fit" for name in tables}
    return Contest(
        op="paged_attention",
        size=size,
        num_bytes=num_bytes,
        num_operations=4 * pairs * spec.query_size,
        sides=sides,
        dtype=dtype,
        goal=goal,
        not_run=not_run,
    )


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether a tensor of this size fits, with some room beside it; always on a CPU, where everything is tiny."""
    if device.type != "cuda":
        return True
    torch.cuda.empty_cache()
    return num_bytes + 2 * 2**30 < torch.cuda.mem_get_info(device)[0]


class _Pool:
    """A layer's cache, in which each call of `window` finds a batch's blocks somewhere else."""

    def __init__(self, spec: ModelSpec, work: Work, dtype: torch.dtype, device: torch.device) -> None:
        self.spec, self.work, self.device = spec, work, device
        self.columns = -(-work.context // BLOCK_SIZE)
        kv_dtype = work.kv_dtype or dtype
        least = COLD_BYTES // (2 * spec.key_size * kv_dtype.itemsize) // BLOCK_SIZE if device.type == "cuda" else 0
        num_blocks = max(work.num_rows * self.columns, least)
        self._blocks = np.random.default_rng(0).permutation(num_blocks)
        self._dtype = dtype
        shape = (num_blocks * BLOCK_SIZE, 2, spec.num_kv_heads)
        values = normal(*shape, spec.head_size, dtype=dtype, device=device)
        scales = None
        if kv_dtype in QUANTISED_PEAKS:
            # Normal values hardly ever exceed 5.
            step = 5 / QUANTISED_PEAKS[kv_dtype]
            values = (values / step).clamp(-QUANTISED_PEAKS[kv_dtype], QUANTISED_PEAKS[kv_dtype]).to(kv_dtype)
            scales = torch.full(shape, step, device=device)
        self.values = values
        self.cache = LayerCache(values, scales)
        # The first window of each side is the same, and so is their first result.
        self._starts: dict[object, Iterator[int]] = {}

    def tables(self, side: object) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """[rows, columns] of block ids, others at every call for the same side."""
        start = next(self._starts.setdefault(side, itertools.count(0, self.work.num_rows * self.columns)))
        places = np.arange(start, start + self.work.num_rows * self.columns) % len(self._blocks)
        tables = self._blocks[places].reshape(self.work.num_rows, self.columns)
        if self.work.beams > 1:
            in_common = (self.work.context - SUFFIX) // BLOCK_SIZE
            first = np.arange(self.work.num_rows) // self.work.beams * self.work.beams
            tables[:, :in_common] = tables[first, :in_common]
        return tables

    def queries(self) -> Tensor:
        """[tokens, heads, size]."""
        shape = (self.work.num_rows * self.work.num_new, self.spec.num_heads, self.spec.head_size)
        return normal(*shape, dtype=self._dtype, device=self.device, seed=1)


def _ours(kernels: Kernels, pool: _Pool) -> Step:
    spec, work = pool.spec, pool.work
    new, context = (np.full(work.num_rows, count, dtype=np.int64) for count in (work.num_new, work.context))
    batch = AttentionBatch(new, context, pool.tables(kernels.name), BLOCK_SIZE)
    shape = AttentionShape(spec.num_heads, spec.num_kv_heads, spec.head_size, (None,))
    plan = kernels.plan_attention(batch, shape, pool.device)
    rule = AttentionRule(spec.head_size**-0.5)
    q = pool.queries()
    return lambda: kernels.paged_attention(q, pool.cache, plan, rule)


def _without_sharing(kernels: Kernels) -> Kernels:
    """The fused table, reading common blocks once for each row."""
    plan: Any = kernels.plan_attention
    return replace(kernels, name="nothing shared", plan_attention=functools.partial(plan, share_prefixes=False))


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q [rows, heads, new, size], k and v [rows, key heads, context, size] -> [rows, heads, new, size]."""


def _peer(pool: _Pool, attend: Attend) -> Step:
    spec, work = pool.spec, pool.work
    blocks = torch.from_numpy(pool.tables(attend)).to(pool.device)
    stored = pool.values.view(-1, BLOCK_SIZE, *pool.values.shape[1:])
    kv = stored[blocks].flatten(1, 2)[:, : work.context]
    k, v = (part.transpose(1, 2) for part in kv.unbind(2))
    q = pool.queries().view(work.num_rows, work.num_new, spec.num_heads, spec.head_size).transpose(1, 2)
    return lambda: attend(q, k, v).transpose(1, 2).flatten(0, 1)


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)


def _flex(work: Work, device: torch.device) -> Attend:
    """FlexAttention as its authors want it to be used: compiled, with a mask of blocks for a prompt."""
    mask = None
    if work.is_prompt:
        mask = create_block_mask(_is_causal, None, None, work.num_new, work.context, device=str(device))
    attend = compiled(flex_attention, device)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = attend(q, k, v, block_mask=mask, enable_gqa=True)
        assert isinstance(out, Tensor)
        return out

    return step


def _is_causal(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key
