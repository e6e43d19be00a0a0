"""Up to 16 rows: every weight is read once, and reading it is all the time there is.

A program takes a few outputs and all inputs, so nothing is shared between programs and the order of every sum is
fixed. Its warps divide the inputs among them (PARTS): each multiplies its own stretch with the tensor core, and only at
the end are their sums added. Side by side along the outputs, four warps would have 16 outputs for one of them, and its
chain of 16 dependent products, each some 33 cycles, would take longer than the memory does to bring the 8 KiB of the
next stage (18 bytes a cycle for each multiprocessor of an H200).

Why few outputs: Llama-3.2-1B has layers of 2048 outputs. 16 of them a program are 128 programs for 132 multiprocessors,
each with 40 KiB of weights under way; the memory of an H200 needs about 24 KiB under way in each (4.3 TB/s for 0.7 us).
The weight is the left operand, because the tensor core wants 16 rows there and 8 columns on the right.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import triton
import triton.language as tl

from penstock_kernels.configuration import Configuration
from penstock_kernels.linear.fused.epilogue import finish, multiply
from penstock_kernels.linear.fused.operands import Kind, Machine, Operands, Variant, machine, machine_of
from penstock_kernels.linear.quantised import GROUP

MAX_ROWS = 16

NUM_WARPS = 4
_WIDE = 8192
"""From this many outputs on, 32 a program make nearly two programs a multiprocessor, and x is read half as often."""


class Tile(NamedTuple):
    """BLOCK_N outputs; each of NUM_WARPS parts takes DEPTH inputs a stage."""

    block_n: int
    depth: int
    num_stages: int


def multiply_rows(operands: Operands) -> None:
    """At most MAX_ROWS rows, at least one."""
    weight = operands.weight
    tile = _tile(machine(operands.x.device), operands.kind, is_wide=operands.num_outputs >= _WIDE)
    few_rows_kernel[(triton.cdiv(operands.num_outputs, tile.block_n),)](
        operands.x,
        weight.values,
        weight.scales,
        operands.bias,
        operands.residual,
        operands.out,
        len(operands.x),
        operands.num_outputs,
        operands.num_inputs,
        FORM=weight.form,
        ACTIVATION=operands.activation,
        IS_GATED=operands.is_gated,
        IS_EVEN=operands.num_inputs % (NUM_WARPS * tile.depth) == 0,
        BLOCK_N=tile.block_n,
        BLOCK_M=MAX_ROWS,
        PARTS=NUM_WARPS,
        DEPTH=tile.depth,
        num_warps=NUM_WARPS,
        num_stages=tile.num_stages,
    )


def _tile(machine: Machine, kind: Kind, is_wide: bool) -> Tile:
    # A part reads a line of the cache, 128 bytes, of each output's weights; of int4 a group, which is half a line.
    depth = GROUP if kind.form == "int4" else 128 // kind.weight_bytes(1)
    block_n = 32 if is_wide and not kind.is_gated and kind.size < 4 else 16
    inputs = NUM_WARPS * depth
    weights = (2 if kind.is_gated else 1) * block_n * kind.weight_bytes(inputs)
    # Without wgmma a stage is multiplied from registers, so that of N stages only N - 1 are in shared memory at once.
    return Tile(block_n, depth, 1 + machine.num_stages(weights + MAX_ROWS * inputs * kind.size, programs=2))


@triton.jit(do_not_specialize=["num_rows"])
def few_rows_kernel(
    x, weight, scales, bias, residual, out, num_rows, num_outputs, num_inputs,
    FORM: tl.constexpr, ACTIVATION: tl.constexpr, IS_GATED: tl.constexpr, IS_EVEN: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, PARTS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Outputs BLOCK_N * program and on, of every row. IS_EVEN: the inputs are a multiple of PARTS * DEPTH."""
    # Axes: part, output, row; and, of what is summed over, depth. COLUMNS: what memory holds of DEPTH inputs.
    COLUMNS: tl.constexpr = DEPTH // 2 if FORM == "int4" else DEPTH
    num_columns = tl.cdiv(num_inputs, DEPTH) * COLUMNS if FORM == "int4" else num_inputs
    part = tl.arange(0, PARTS)
    depth = tl.arange(0, COLUMNS)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.arange(0, BLOCK_M)

    # Beyond the last output the last one is read again, which costs no traffic; rows beyond the last one are zeros,
    # which costs none either: a copy whose mask is off reads nothing.
    nearest = tl.minimum(n, num_outputs - 1)
    column = part[:, None, None] * COLUMNS + depth[None, None, :]
    w = weight + nearest.to(tl.int64)[None, :, None] * num_columns + column
    w_up = weight + (nearest + num_outputs).to(tl.int64)[None, :, None] * num_columns + column
    feature = part[:, None, None] * DEPTH + depth[None, :, None]
    x_low = x + m[None, None, :] * num_inputs + feature
    is_row = (m < num_rows)[None, None, :]

    product = tl.zeros((PARTS, BLOCK_N, BLOCK_M), tl.float32)
    up = product
    for step in range(tl.cdiv(num_inputs, PARTS * DEPTH)):
        first_column = step * PARTS * COLUMNS
        first_feature = step * PARTS * DEPTH
        is_low = is_row if IS_EVEN else is_row & (feature < num_inputs - first_feature)
        low = tl.load(x_low + first_feature, mask=is_low, other=0.0)
        high = low
        scale = 1.0
        scale_up = 1.0
        if FORM == "int4":
            is_high = is_row if IS_EVEN else is_row & (feature < num_inputs - first_feature - COLUMNS)
            high = tl.load(x_low + first_feature + COLUMNS, mask=is_high, other=0.0)
            group = step * PARTS + part[:, None, None]
            num_scales = (2 if IS_GATED else 1) * num_outputs
            at = scales + group * num_scales + nearest[None, :, None]
            is_group = group < tl.cdiv(num_inputs, DEPTH)
            scale = tl.load(at, mask=is_group, other=0.0).to(tl.float32)
            if IS_GATED:
                scale_up = tl.load(at + num_outputs, mask=is_group, other=0.0).to(tl.float32)
        # The weights are read once and make room in the cache at once, so that x stays there.
        if IS_EVEN:
            numbers = tl.load(w + first_column, eviction_policy="evict_first")
        else:
            numbers = tl.load(w + first_column, mask=column < num_columns - first_column, other=0)
        product = multiply(numbers, low, high, scale, product, FORM)
        if IS_GATED:
            if IS_EVEN:
                numbers = tl.load(w_up + first_column, eviction_policy="evict_first")
            else:
                numbers = tl.load(w_up + first_column, mask=column < num_columns - first_column, other=0)
            up = multiply(numbers, low, high, scale_up, up, FORM)

    total = tl.sum(product, axis=0)
    total_up = total
    if IS_GATED:
        total_up = tl.sum(up, axis=0)
    finish(
        total, total_up, scales, bias, residual, out, n, m, num_rows, num_outputs, FORM, ACTIVATION, IS_GATED
    )  # fmt: skip


def configurations(op: str, capability: int, variants: Iterable[Variant]) -> Iterator[Configuration]:
    """Every tile, for inputs that fill its stages and for inputs that do not."""
    machine = machine_of(capability)
    for variant in variants:
        for tile in dict.fromkeys(_tile(machine, variant.kind, is_wide) for is_wide in (False, True)):
            for is_even in (True, False):
                yield Configuration(
                    op=op,
                    name=f"few rows, {variant.name}, {tile.block_n} outputs" + ("" if is_even else ", uneven"),
                    kernel=few_rows_kernel,
                    types={**variant.types, "num_rows": "i32", "num_outputs": "i32", "num_inputs": "i32"},
                    constants={
                        **variant.constants,
                        "IS_EVEN": is_even,
                        "BLOCK_N": tile.block_n,
                        "BLOCK_M": MAX_ROWS,
                        "PARTS": NUM_WARPS,
                        "DEPTH": tile.depth,
                    },
                    num_warps=NUM_WARPS,
                    num_stages=tile.num_stages,
                    aligned=frozenset({*variant.types, "num_outputs", "num_inputs"}),
                )
