"""Bias, norms, rotation and the write to the cache in Triton: one pass over the projection.

A program takes one token and a few heads of one kind: queries, keys or values. It holds a head as two halves and a
rest,

    features  0 .. half - 1 | half .. 2 half - 1 | 2 half .. head_size - 1
              first           second               rest

where 2 half is rotary_size, or as much of the head as can be halved if nothing rotates. So a pair that rotates lies in
one thread, which reads both, turns them and writes both: nothing is read twice, and no thread waits for another's read
before it writes over it in place.

Traffic, at Llama-3-8B's shape in 16 bits: 12 KiB read and 12 KiB written a token. The angles come from the second-level
cache.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.layer_cache import QUANTISED_PEAKS, LayerCache
from penstock_kernels.qkv_prepare import Angles, HeadNorms
from penstock_kernels.tolerance import DTYPES
from penstock_kernels.triton_types import TRITON_TYPES

_HALF_BLOCKS = (8, 16, 32, 64, 128)
_HALF_ELEMENTS = 512
"""Elements of a program's first halves, 1024 with the second ones. Small programs, because one token has only 6144
elements at Llama-3-8B's shape, and there may be only one token."""


def qkv_prepare(
    qkv: Tensor,
    cache: LayerCache,
    slot_mapping: Tensor,
    *,
    bias: Tensor | None = None,
    norms: HeadNorms | None = None,
    angles: Angles | None = None,
) -> Tensor:
    """See `QkvPrepare`."""
    num_tokens, num_all_heads, head_size = qkv.shape
    num_kv_heads = cache.values.shape[2]
    num_heads = num_all_heads - 2 * num_kv_heads
    q = qkv.narrow(1, 0, num_heads)
    if num_tokens == 0:
        return q
    half, rest = _parts(head_size, None if angles is None else angles.cos.shape[-1])
    half_block, rest_block = _blocks(half, rest)
    heads = _HALF_ELEMENTS // half_block
    # Queries that nothing changes stay where they are.
    changes_queries = bias is not None or norms is not None or angles is not None
    query_groups = triton.cdiv(num_heads, heads) if changes_queries else 0
    key_groups = triton.cdiv(num_kv_heads, heads)
    _qkv_prepare[(num_tokens, query_groups + 2 * key_groups)](
        qkv,
        cache.values if cache.scales is None else cache.values.view(torch.int8),
        cache.scales,
        slot_mapping,
        bias,
        None if norms is None else norms.q_weight,
        None if norms is None else norms.k_weight,
        None if angles is None else angles.cos,
        None if angles is None else angles.sin,
        num_heads,
        num_kv_heads,
        head_size,
        half,
        query_groups,
        key_groups,
        0.0 if norms is None else norms.eps,
        PEAK=QUANTISED_PEAKS.get(cache.values.dtype),
        IS_FLOAT8=cache.values.dtype == torch.float8_e4m3fn,
        HEADS=heads,
        HALF_BLOCK=half_block,
        REST_BLOCK=rest_block,
        num_warps=_num_warps(qkv.dtype, rest_block),
    )
    return q


def _num_warps(dtype: torch.dtype, rest_block: int) -> int:
    """So that a thread reads 16 bytes of each half at a time, and has registers left for a rest."""
    num_warps = 4 if dtype == torch.float32 else 2
    return 2 * num_warps if rest_block else num_warps


def _parts(head_size: int, rotary_size: int | None) -> tuple[int, int]:
    """How many features a half has, and the rest."""
    half = (head_size if rotary_size is None else rotary_size) // 2
    return half, head_size - 2 * half


def _blocks(half: int, rest: int) -> tuple[int, int]:
    """Room for a half, and for the rest: powers of two, 0 for no rest."""
    for block in _HALF_BLOCKS:
        if half <= block:
            return block, max(triton.next_power_of_2(rest), 16) if rest else 0
    raise ValueError(f"the fused qkv_prepare rotates up to {2 * _HALF_BLOCKS[-1]} features, and these are {2 * half}")


# One kernel for all numbers of heads, 1 too, and for any place of the slots in a packed buffer.
@triton.jit(
    do_not_specialize=["num_heads", "num_kv_heads", "query_groups", "key_groups"],
    do_not_specialize_on_alignment=["slot_mapping"],
)
def _qkv_prepare(
    qkv,
    values,
    scales,
    slot_mapping,
    bias,
    q_weight,
    k_weight,
    cos,
    sin,
    num_heads,
    num_kv_heads,
    head_size,
    half,
    query_groups,
    key_groups,
    eps,
    PEAK: tl.constexpr,
    IS_FLOAT8: tl.constexpr,
    HEADS: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
    REST_BLOCK: tl.constexpr,
):
    # 64 bits: a cache has more than 2^31 elements.
    token = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)

    # Which heads of which kind. The kinds lie behind one another in qkv, keys and values as they do in the cache.
    if group < query_groups:
        kind = 0
        start = 0
        count = num_heads
        first_head = group * HEADS
    elif group < query_groups + key_groups:
        kind = 1
        start = num_heads
        count = num_kv_heads
        first_head = (group - query_groups) * HEADS
    else:
        kind = 2
        start = num_heads + num_kv_heads
        count = num_kv_heads
        first_head = (group - query_groups - key_groups) * HEADS
    head = first_head + tl.arange(0, HEADS)
    present = head < count
    place = ((start + head) * head_size)[:, None]
    source = qkv + token * (num_heads + 2 * num_kv_heads) * head_size

    i = tl.arange(0, HALF_BLOCK)
    in_half = i < half
    inside = present[:, None] & in_half[None, :]
    # Asked for before anything is waited for: with a few tokens the time is that of one access to memory after another.
    slot = tl.load(slot_mapping + token)
    if cos is not None:
        # Each cosine and each sine stands there twice, the first sine with its sign changed: read once. Not for values.
        c = tl.load(cos + token * 2 * half + i, mask=in_half & (kind < 2), other=0.0)[None, :]
        s = tl.load(sin + token * 2 * half + half + i, mask=in_half & (kind < 2), other=0.0)[None, :]
    first = _load(source, bias, place + i[None, :], inside)
    second = _load(source, bias, place + half + i[None, :], inside)
    if REST_BLOCK > 0:
        j = 2 * half + tl.arange(0, REST_BLOCK)
        in_rest = j < head_size
        inside_rest = present[:, None] & in_rest[None, :]
        rest = _load(source, bias, place + j[None, :], inside_rest)

    # What is asked first is known when the kernel is compiled, what comes next only when it runs.
    if q_weight is not None:  # noqa: SIM102
        if kind < 2:
            # Elements outside are 0 and add nothing.
            squares = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
            if REST_BLOCK > 0:
                squares += tl.sum(rest * rest, axis=1)
            norm = tl.div_rn(1.0, tl.sqrt_rn(tl.div_rn(squares, head_size * 1.0) + eps))[:, None]
            weight = q_weight if kind == 0 else k_weight
            first = first * norm * tl.load(weight + i, mask=in_half, other=0.0).to(tl.float32)[None, :]
            second = second * norm * tl.load(weight + half + i, mask=in_half, other=0.0).to(tl.float32)[None, :]
            if REST_BLOCK > 0:
                rest = rest * norm * tl.load(weight + j, mask=in_rest, other=0.0).to(tl.float32)[None, :]

    if cos is not None:  # noqa: SIM102
        if kind < 2:
            turned = first * c - second * s
            second = second * c + first * s
            first = turned

    if kind == 0:
        _store(source + place + i[None, :], first, inside)
        _store(source + place + half + i[None, :], second, inside)
        if REST_BLOCK > 0:
            _store(source + place + j[None, :], rest, inside_rest)
    else:
        # Keys and values of a slot are neighbours: its heads are the keys', then the values'.
        cached = (slot * 2 + kind - 1) * num_kv_heads + head
        target = values + (cached * head_size)[:, None]
        if PEAK is None:
            _store(target + i[None, :], first, inside)
            _store(target + half + i[None, :], second, inside)
            if REST_BLOCK > 0:
                _store(target + j[None, :], rest, inside_rest)
        else:
            largest = tl.maximum(tl.max(tl.abs(first), axis=1), tl.max(tl.abs(second), axis=1))
            faults = tl.sum(first * 0.0 + second * 0.0, axis=1)
            if REST_BLOCK > 0:
                largest = tl.maximum(largest, tl.max(tl.abs(rest), axis=1))
                faults += tl.sum(rest * 0.0, axis=1)
            # Neither int8 nor a maximum keeps a NaN: the scale does, so that it reaches whoever reads the head.
            scale = tl.div_rn(largest, PEAK) + faults
            scale = tl.where(scale == 0.0, 1.0, scale)
            tl.store(scales + cached, scale, mask=present)
            _store(target + i[None, :], _quantised(first, scale, IS_FLOAT8), inside)
            _store(target + half + i[None, :], _quantised(second, scale, IS_FLOAT8), inside)
            if REST_BLOCK > 0:
                _store(target + j[None, :], _quantised(rest, scale, IS_FLOAT8), inside_rest)


@triton.jit
def _load(source, bias, place, inside):
    x = tl.load(source + place, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        x += tl.load(bias + place, mask=inside, other=0.0).to(tl.float32)
    return x


@triton.jit
def _store(target, x, inside):
    tl.store(target, x.to(target.dtype.element_ty), mask=inside)


@triton.jit
def _quantised(x, scale, IS_FLOAT8: tl.constexpr):
    """x [heads, features] over the scale of its head, in int8: the number, or the bits of the float8. NaN becomes 0."""
    scaled = tl.div_rn(x, tl.broadcast_to(scale[:, None], x.shape))
    scaled = tl.where(scaled == scaled, scaled, 0.0)
    return _float8_bits(scaled) if IS_FLOAT8 else tl.floor(scaled + 0.5).to(tl.int8)


@triton.jit
def _float8_bits(x):
    """Bits of the float8 e4m3 nearest to x, |x| <= 448; ties to even.

    Triton's own conversion needs compute capability 8.9, and its interpreter's does not carry into the exponent.

    float8:  sign 1, exponent 4 (bias 7),   mantissa 3     2^-6 is the smallest normal number, 2^-9 the smallest of all
    float32: sign 1, exponent 8 (bias 127), mantissa 23
    """
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # Normal numbers: cut 20 bits of mantissa off, adding just under a half, or a half where that makes it even.
    normal = (magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20
    # Others are whole multiples of 2^-9, which float32's own rounding finds where its last place is 1: from 2^23 on.
    multiple = (tl.abs(x) * 512.0 + 8388608.0).to(tl.int32, bitcast=True) - 0x4B000000
    # Exponents are told from 7 instead of 127; with 3 bits of mantissa below them, that is 120 * 8.
    code = tl.where(magnitude < 0x3C800000, multiple, normal - 960)
    return (code | ((bits >> 24) & 0x80)).to(tl.int8)


# What the families of models ask for: bias, norms, rotation; and the halves that each is compiled for.
_STEPS = {
    "Llama": ((False, False, True), (32, 64, 128)),
    "Qwen2": ((True, False, True), (32, 64)),
    "Qwen3": ((False, True, True), (32, 64, 128)),
    "GPT-2": ((True, False, False), (32, 64)),
    "all": ((True, True, True), (32, 64)),
}


def configurations(capability: int) -> Iterator[Configuration]:
    """Heads of 64, 128 and 256 features (80 and 96 share the blocks of 128), and one that rotates in part.

    Smaller heads, other rests and sizes that are no multiple of 16 compile to the same code with other blocks or
    narrower accesses.
    """
    for dtype in DTYPES:
        for quantised in (None, torch.int8, torch.float8_e4m3fn):
            for name, (_, halves) in _STEPS.items():
                for half in halves:
                    yield _configuration(dtype, quantised, name, half, 0)
            yield _configuration(dtype, quantised, "Llama", 32, 64)


def _configuration(
    dtype: torch.dtype, quantised: torch.dtype | None, steps: str, half: int, rest: int
) -> Configuration:
    with_bias, with_norms, with_angles = _STEPS[steps][0]
    half_block, rest_block = _blocks(half, rest)
    plain = TRITON_TYPES[dtype]
    pointers = {
        "qkv": plain,
        "values": plain if quantised is None else "i8",
        "scales": "fp32" if quantised is not None else None,
        "slot_mapping": "i64",
        "bias": plain if with_bias else None,
        "q_weight": plain if with_norms else None,
        "k_weight": plain if with_norms else None,
        "cos": "fp32" if with_angles else None,
        "sin": "fp32" if with_angles else None,
    }
    given = {name: f"*{type_}" for name, type_ in pointers.items() if type_ is not None}
    counts = ("num_heads", "num_kv_heads", "head_size", "half", "query_groups", "key_groups")
    rest_name = f" rest {rest}" if rest else ""
    cache_name = f" cache {TRITON_TYPES[quantised]}" if quantised is not None else ""
    return Configuration(
        op="qkv_prepare",
        name=f"{plain} {steps} half {half}{rest_name}{cache_name}",
        kernel=_qkv_prepare,
        types={**given, **dict.fromkeys(counts, "i32"), "eps": "fp32"},
        constants={
            **{name: None for name, type_ in pointers.items() if type_ is None},
            "PEAK": None if quantised is None else QUANTISED_PEAKS[quantised],
            "IS_FLOAT8": quantised == torch.float8_e4m3fn,
            "HEADS": _HALF_ELEMENTS // half_block,
            "HALF_BLOCK": half_block,
            "REST_BLOCK": rest_block,
        },
        num_warps=_num_warps(dtype, rest_block),
        num_stages=3,
        aligned=frozenset({*given, "head_size", "half"} - {"slot_mapping"}),
    )
