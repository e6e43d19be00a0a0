"""Any number of rows, and for each row the same bits whatever their number.

A row's result is one sum over the inputs, and its bits are the order of that sum. Here the order is decided by the
weight's shape alone. The inputs are cut into segments of equal length. Within a segment the tensor core adds up
BLOCK_K inputs after one another, 16 an instruction; the segments' sums are then added in ascending order:

    inputs     |--------- segment 0 ---------|--------- segment 1 ---------|     total = (0 + sum 0) + sum 1

- Up to `max_segment_rows` rows, `segment_kernel`: a program for each segment, because a layer of few outputs would else
  leave most multiprocessors idle (2048 outputs are 32 programs of 64). Each leaves its sum in memory, and the one that
  arrives last adds them up: in the segments' order, so that it does not matter which one it is.
- More, `persistent_kernel`: as many programs as multiprocessors, each walking tiles of 128 x 128, segment by segment.

Both go through `_segment`, with the same BLOCK_K and the weight on the left: on sm_90 every product is
wgmma m64nXk16, on sm_80 mma.sync m16n8k16, where X and the number of the latter follow the rows, and a row is a column
of the result, whose sum does not depend on its neighbours. (A kernel with the rows on the left would need 64 of them
for wgmma, take mma.sync below that, and change its bits there.) tests/kernels/test_linear_instructions.py looks.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.linear.fused.epilogue import finish, multiply
from penstock_kernels.linear.fused.operands import Kind, Machine, Operands, Variant, machine, machine_of
from penstock_kernels.linear.quantised import GROUP

SEGMENT_OUTPUTS = 64
"""Outputs of a program of `segment_kernel`: the fewest rows that wgmma takes on the left. Gated, of each half."""

# Segments are added until there is about one program for each multiprocessor of an A100 (108) or an H100 (132), as long
# as each has 1024 bytes of every row to read. A constant, not the machine's count: bits are not to depend on it.
_ENOUGH_PROGRAMS = 128
_LEAST_INPUTS = 512

_GROUP_M = 8
"""Tiles of rows that meet a tile of the weight before the next one: their x stays in the L2 cache meanwhile."""


class Tile(NamedTuple):
    block_n: int
    block_m: int
    block_k: int
    num_warps: int
    num_stages: int


def new_arrivals(weight: Tensor) -> Tensor:
    """See `Weight.arrivals`."""
    return torch.zeros(triton.cdiv(weight.shape[0], SEGMENT_OUTPUTS), dtype=torch.int32, device=weight.device)


def num_segments(num_outputs: int, num_inputs: int) -> int:
    """A power of two that depends on nothing but the layer. num_outputs: after the activation."""
    programs = triton.cdiv(num_outputs, SEGMENT_OUTPUTS)
    segments = 1
    while 2 * segments * programs <= _ENOUGH_PROGRAMS and num_inputs >= 2 * segments * _LEAST_INPUTS:
        segments *= 2
    return segments


def max_segment_rows(kind: Kind) -> int:
    """64; of gated int4, whose groups take four tiles' registers, half as many. Such layers have outputs enough."""
    return 32 if kind.form == "int4" and kind.is_gated else 64


def multiply_rows(operands: Operands) -> None:
    """At least one row."""
    if len(operands.x) <= max_segment_rows(operands.kind):
        _by_segments(operands)
    else:
        _by_persistent_programs(operands)


def _by_segments(operands: Operands) -> None:
    x, weight, num_rows = operands.x, operands.weight, len(operands.x)
    segments = _segments_of(operands)
    tile = _segment_tile(machine(x.device), operands.kind, 16 if num_rows <= 16 else max_segment_rows(operands.kind))
    num_tiles = triton.cdiv(operands.num_outputs, tile.block_n)
    partials = None
    if segments > 1:
        shape = (segments, num_tiles, 2 if operands.is_gated else 1, tile.block_n, tile.block_m)
        partials = torch.empty(shape, dtype=torch.float32, device=x.device)
    segment_kernel[(num_tiles, segments)](
        x,
        weight.values,
        weight.scales,
        operands.bias,
        operands.residual,
        operands.out,
        partials,
        weight.arrivals if segments > 1 else None,
        num_rows,
        operands.num_outputs,
        operands.num_inputs,
        segments,
        IS_SPLIT=segments > 1,
        **_constants(operands, tile),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        enable_fp_fusion=False,
    )


def _by_persistent_programs(operands: Operands) -> None:
    x, weight, num_rows = operands.x, operands.weight, len(operands.x)
    here = machine(x.device)
    tile = _persistent_tile(here, operands.kind)
    num_tiles = triton.cdiv(operands.num_outputs, tile.block_n) * triton.cdiv(num_rows, tile.block_m)
    persistent_kernel[(min(num_tiles, here.num_multiprocessors),)](
        x,
        weight.values,
        weight.scales,
        operands.bias,
        operands.residual,
        operands.out,
        num_rows,
        operands.num_outputs,
        operands.num_inputs,
        _segments_of(operands),
        **_constants(operands, tile),
        GROUP_M=_GROUP_M,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        enable_fp_fusion=False,
    )


def _segments_of(operands: Operands) -> int:
    if operands.weight.arrivals is None:
        return 1
    return num_segments(operands.num_outputs, operands.num_inputs)


def _constants(operands: Operands, tile: Tile) -> dict[str, Any]:
    return {
        "FORM": operands.weight.form,
        "ACTIVATION": operands.activation,
        "IS_GATED": operands.is_gated,
        "IS_EVEN": operands.num_inputs % tile.block_k == 0,
        "BLOCK_N": tile.block_n,
        "BLOCK_M": tile.block_m,
        "BLOCK_K": tile.block_k,
    }


def _block_k(kind: Kind) -> int:
    """The same for any number of rows: float32 products, which are not the tensor core's, follow it in their order."""
    return GROUP if kind.form == "int4" else 32 if kind.size == 4 else 64


def _segment_tile(machine: Machine, kind: Kind, block_m: int) -> Tile:
    block_k = _block_k(kind)
    weights = (2 if kind.is_gated else 1) * SEGMENT_OUTPUTS * kind.weight_bytes(block_k)
    stages = machine.num_stages(weights + block_m * block_k * kind.size, programs=2, most=8)
    # The tile of int4's group takes registers too, and so do unrolled float32 products.
    num_warps = 8 if (kind.form == "int4" or kind.size == 4) and block_m > 16 else 4
    return Tile(SEGMENT_OUTPUTS, block_m, block_k, num_warps, stages)


def _persistent_tile(machine: Machine, kind: Kind) -> Tile:
    # 128 x 128 results are 64 registers of each thread, and as many hold the sum of the segments before. A gated layer
    # has two such pairs, and int4 a third tile for the group, so theirs are smaller.
    block_n, block_m, block_k = 128, 128, _block_k(kind)
    if kind.is_gated:
        block_n = 64
    if kind.size == 4:
        block_n = block_m = 64
    if kind.form == "int8" and machine.capability < 90:
        block_m = 64  # without wgmma, x passes through the registers too
    if kind.form == "int4":
        block_m = 32 if kind.is_gated else 64
    weights = (2 if kind.is_gated else 1) * block_n * kind.weight_bytes(block_k)
    return Tile(block_n, block_m, block_k, 8, machine.num_stages(weights + block_m * block_k * kind.size, most=4))


@triton.jit(do_not_specialize=["num_rows", "num_segments"])
def segment_kernel(
    x, weight, scales, bias, residual, out, partials, arrivals, num_rows, num_outputs, num_inputs, num_segments,
    IS_SPLIT: tl.constexpr, FORM: tl.constexpr, ACTIVATION: tl.constexpr, IS_GATED: tl.constexpr,
    IS_EVEN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Program (i, s): segment s of the outputs BLOCK_N * i and on, for every row; num_rows is at most BLOCK_M.

    partials: [num_segments, programs along the outputs, 2 if gated else 1, BLOCK_N, BLOCK_M] float32, of which nothing
    is expected and nothing remains. arrivals: see `Weight.arrivals`. Both are None unless IS_SPLIT: more segments than
    one.
    """
    tile = tl.program_id(0)
    n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.arange(0, BLOCK_M)
    product, up = _segment(
        x, weight, scales, n, m, tl.program_id(1), num_rows, num_outputs, num_inputs, num_segments,
        FORM, IS_GATED, IS_EVEN, BLOCK_N, BLOCK_M, BLOCK_K,
    )  # fmt: skip
    if not IS_SPLIT:
        finish(product, up, scales, bias, residual, out, n, m, num_rows, num_outputs, FORM, ACTIVATION, IS_GATED)
    else:
        SIZE: tl.constexpr = BLOCK_N * BLOCK_M
        HALVES: tl.constexpr = 2 if IS_GATED else 1
        place = partials + tl.arange(0, BLOCK_N)[:, None] * BLOCK_M + tl.arange(0, BLOCK_M)[None, :]
        stride = tl.num_programs(0) * HALVES * SIZE
        mine = place + tl.program_id(1) * stride + tile * HALVES * SIZE
        tl.store(mine, product)
        if IS_GATED:
            tl.store(mine + SIZE, up)
        # One thread counts for all of the program, so all must have written before. Its acq_rel makes their writes
        # visible to whoever counts after it, and those of the programs that counted before it visible here.
        tl.debug_barrier()
        arrived = tl.atomic_add(arrivals + tile, 1, sem="acq_rel", scope="gpu")
        if arrived == num_segments - 1:
            # Past the first-level cache, which is not told of other multiprocessors' writes; not ahead of their turn.
            total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
            total_up = total
            for segment in tl.range(0, num_segments, num_stages=1):
                its = place + segment * stride + tile * HALVES * SIZE
                total += tl.load(its, cache_modifier=".cg")
                if IS_GATED:
                    total_up += tl.load(its + SIZE, cache_modifier=".cg")
            tl.store(arrivals + tile, 0)
            finish(
                total, total_up, scales, bias, residual, out, n, m, num_rows, num_outputs, FORM, ACTIVATION, IS_GATED
            )


@triton.jit(do_not_specialize=["num_rows", "num_segments"])
def persistent_kernel(
    x, weight, scales, bias, residual, out, num_rows, num_outputs, num_inputs, num_segments,
    FORM: tl.constexpr, ACTIVATION: tl.constexpr, IS_GATED: tl.constexpr, IS_EVEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    """Program i: tiles i, i + programs, ... of all BLOCK_N x BLOCK_M tiles of the result."""
    tiles_n = tl.cdiv(num_outputs, BLOCK_N)
    tiles_m = tl.cdiv(num_rows, BLOCK_M)
    for tile in range(tl.program_id(0), tiles_n * tiles_m, tl.num_programs(0)):
        # Groups of GROUP_M tiles of rows; within a group, tile after tile of outputs, and for each all tiles of rows.
        group = tile // (GROUP_M * tiles_n)
        within = tile % (GROUP_M * tiles_n)
        group_size = tl.minimum(tiles_m - group * GROUP_M, GROUP_M)
        m = (group * GROUP_M + within % group_size) * BLOCK_M + tl.arange(0, BLOCK_M)
        n = (within // group_size) * BLOCK_N + tl.arange(0, BLOCK_N)
        total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        total_up = total
        for segment in range(num_segments):
            product, up = _segment(
                x, weight, scales, n, m, segment, num_rows, num_outputs, num_inputs, num_segments,
                FORM, IS_GATED, IS_EVEN, BLOCK_N, BLOCK_M, BLOCK_K,
            )  # fmt: skip
            total += product
            if IS_GATED:
                total_up += up
        finish(total, total_up, scales, bias, residual, out, n, m, num_rows, num_outputs, FORM, ACTIVATION, IS_GATED)


@triton.jit
def _segment(
    x, weight, scales, n, m, segment, num_rows, num_outputs, num_inputs, num_segments,
    FORM: tl.constexpr, IS_GATED: tl.constexpr, IS_EVEN: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One segment's sums, [BLOCK_N, BLOCK_M] float32, of the outputs n and the rows m; twice if gated: gate, up.

    IS_EVEN: the inputs are a multiple of BLOCK_K.
    """
    # COLUMNS: what memory holds of BLOCK_K inputs. A segment is a whole number of steps; the last one may have fewer.
    COLUMNS: tl.constexpr = BLOCK_K // 2 if FORM == "int4" else BLOCK_K
    num_steps = tl.cdiv(num_inputs, BLOCK_K)
    num_columns = num_steps * COLUMNS if FORM == "int4" else num_inputs
    steps = tl.cdiv(num_steps, num_segments)
    first = segment * steps
    depth = tl.arange(0, COLUMNS)

    # Outputs and rows beyond the last one: see `few_rows_kernel`.
    nearest = tl.minimum(n, num_outputs - 1)
    w = weight + nearest.to(tl.int64)[:, None] * num_columns + depth[None, :]
    w_up = weight + (nearest + num_outputs).to(tl.int64)[:, None] * num_columns + depth[None, :]
    x_low = x + m.to(tl.int64)[None, :] * num_inputs + depth[:, None]
    is_row = (m < num_rows)[None, :]

    product = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    up = product
    for step in range(first, tl.minimum(first + steps, num_steps)):
        first_input = step * BLOCK_K
        first_column = step * COLUMNS
        left = num_inputs - first_input
        low = tl.load(x_low + first_input, mask=is_row if IS_EVEN else is_row & (depth < left)[:, None], other=0.0)
        high = low
        scale = 1.0
        scale_up = 1.0
        if FORM == "int4":
            is_high = is_row if IS_EVEN else is_row & (depth < left - COLUMNS)[:, None]
            high = tl.load(x_low + first_input + COLUMNS, mask=is_high, other=0.0)
            num_scales = (2 if IS_GATED else 1) * num_outputs
            at = scales + step * num_scales + nearest
            scale = tl.load(at).to(tl.float32)[:, None]
            if IS_GATED:
                scale_up = tl.load(at + num_outputs).to(tl.float32)[:, None]
        if IS_EVEN or FORM == "int4":
            numbers = tl.load(w + first_column)
        else:
            numbers = tl.load(w + first_column, mask=(depth < left)[None, :], other=0)
        product = multiply(numbers, low, high, scale, product, FORM)
        if IS_GATED:
            if IS_EVEN or FORM == "int4":
                numbers = tl.load(w_up + first_column)
            else:
                numbers = tl.load(w_up + first_column, mask=(depth < left)[None, :], other=0)
            up = multiply(numbers, low, high, scale_up, up, FORM)
    return product, up


def configurations(
    op: str, capability: int, variants: Iterable[Variant], splits: bool = True
) -> Iterator[Configuration]:
    """Every tile, for inputs that fill its steps and for inputs that do not. `splits`: whether the op has segments."""
    machine = machine_of(capability)
    for variant in variants:
        persistent = _persistent_tile(machine, variant.kind)
        yield from _of_tile(persistent_kernel, op, f"persistent, {variant.name}", variant, persistent)
        for block_m in (16, max_segment_rows(variant.kind)):
            tile = _segment_tile(machine, variant.kind, block_m)
            for is_split in (False, True) if splits else (False,):
                name = f"{'several segments' if is_split else 'one segment'}, {variant.name}, {block_m} rows"
                yield from _of_tile(segment_kernel, op, name, variant, tile, is_split)


def _of_tile(
    kernel: Any, op: str, name: str, variant: Variant, tile: Tile, is_split: bool = False
) -> Iterator[Configuration]:
    types = {**variant.types, **dict.fromkeys(("num_rows", "num_outputs", "num_inputs", "num_segments"), "i32")}
    constants = {**variant.constants, "BLOCK_N": tile.block_n, "BLOCK_M": tile.block_m, "BLOCK_K": tile.block_k}
    if kernel is persistent_kernel:
        constants |= {"GROUP_M": _GROUP_M}
    else:
        constants |= {"IS_SPLIT": is_split}
        if is_split:
            types |= {"partials": "*fp32", "arrivals": "*i32"}
        else:
            constants |= {"partials": None, "arrivals": None}
    is_float32 = variant.kind.size == 4
    for is_even in (True, False):
        yield Configuration(
            op=op,
            name=name if is_even else f"{name}, uneven",
            kernel=kernel,
            types=types,
            constants={**constants, "IS_EVEN": is_even},
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            aligned=frozenset(types.keys() - {"num_rows", "num_segments"}),
            options={"enable_fp_fusion": False},
            spill_free=not is_float32,
            why_spills="unrolled products for cores without float32 matrices; a few bytes in a thousand instructions"
            if is_float32
            else "",
        )
