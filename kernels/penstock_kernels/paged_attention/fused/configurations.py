"""All that the launchers can choose, for compilation ahead of time."""

from collections.abc import Iterator

import torch

from penstock_kernels.configuration import Configuration
from penstock_kernels.paged_attention.fused.attend import attend
from penstock_kernels.paged_attention.fused.launch import CHUNK, COLUMNS
from penstock_kernels.paged_attention.fused.list_work import compare_tables, list_work
from penstock_kernels.paged_attention.fused.tiles import (
    CACHE_DTYPES,
    COMBINE_ROWS,
    FEW_ROWS,
    FLOAT8_CAPABILITY,
    HEAD_SIZES,
    combine_splits,
    head_pad,
    tile,
)
from penstock_kernels.paged_attention.work import SPLIT
from penstock_kernels.triton_types import TRITON_TYPES


def configurations(capability: int) -> Iterator[Configuration]:
    """The lists of work; attention for each dtype, cache and head size, with and without window, soft cap or slopes."""
    yield _compare_tables()
    for whole in (False, True):
        yield _list_work(whole)
    for dtype, cache_dtypes in CACHE_DTYPES.items():
        for cache_dtype in cache_dtypes:
            if cache_dtype == torch.float8_e4m3fn and capability < FLOAT8_CAPABILITY:
                continue
            for head_size in HEAD_SIZES:
                for whole in (False, True):
                    for has_extras in (False, True):
                        yield _attend(capability, dtype, cache_dtype, head_size, whole, has_extras)


def _attend(
    capability: int, dtype: torch.dtype, cache_dtype: torch.dtype, head_size: int, whole: bool, has_extras: bool
) -> Configuration:
    chosen = tile(head_size, dtype, whole=whole)
    is_quantised, is_padded = cache_dtype != dtype, head_pad(head_size) != head_size
    why_spills = ""
    if dtype == torch.float32:
        why_spills = "multiplied without matrix units, for tests"
    elif whole:
        why_spills = "sums of the splits before beside those of the current one; spilled outside the loop over keys"
    elif capability < 90:
        why_spills = "keys in flight to mma.sync take registers; some words once an item, none in the loop over keys"
    elif (head_size > 128 and (has_extras or is_quantised)) or (is_padded and is_quantised):
        why_spills = "two words once an item, none in the loops over keys"
    model, stored = TRITON_TYPES[dtype], TRITON_TYPES[cache_dtype]
    cache = f"cache {stored} head {head_size}"
    ints = "tables_ptr starts_ptr query_lens_ptr context_lens_ptr table_rows_ptr items_ptr count_ptr slots_ptr"
    numbers = (
        "q_token_stride q_head_stride table_stride num_heads num_kv_heads tile_heads tile_tokens block_shift window"
    )
    return Configuration(
        op="paged_attention",
        name=f"{'whole' if whole else 'split'} {model} {cache}{' extras' if has_extras else ''}",
        kernel=attend,
        types={
            "q_ptr": f"*{model}",
            "out_ptr": f"*{model}",
            "values_ptr": f"*{stored}",
            "scales_ptr": "*fp32",
            **dict.fromkeys(ints.split(), "*i32"),
            "sums_ptr": "*fp32",
            "weights_ptr": "*fp32",
            "arrivals_ptr": "*i32",
            "alibi_ptr": "*fp32",
            **dict.fromkeys(numbers.split(), "i32"),
            "window": "i32",
            "scale": "fp32",
            "soft_cap": "fp32",
            "has_alibi": "i32",
            "num_slots": "i32",
        },
        constants={
            "HEAD_SIZE": head_size,
            "HEAD_PAD": head_pad(head_size),
            "BLOCK_M": chosen.block_m,
            "BLOCK_N": chosen.block_n,
            "SPLIT": SPLIT,
            "WHOLE": whole,
            "EXTRAS": has_extras,
            "QUANTISED": cache_dtype != dtype,
            "COMBINE_M": COMBINE_ROWS,
            "COMBINE_SPLITS": combine_splits(head_size, has_extras=has_extras),
        },
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        aligned=frozenset(
            "q_ptr out_ptr values_ptr items_ptr sums_ptr weights_ptr arrivals_ptr q_token_stride q_head_stride".split()
        ),
        options={"enable_fp_fusion": False},
        spill_free=not why_spills,
        why_spills=why_spills,
    )


def _list_work(whole: bool) -> Configuration:
    pointers = (
        "items_ptr count_ptr slots_ptr arrivals_ptr shared_ptr starts_ptr query_lens_ptr context_lens_ptr".split()
    )
    numbers = "num_sequences capacity num_heads tile_heads tile_tokens window".split()
    return Configuration(
        op="paged_attention",
        name=f"list {'whole' if whole else 'split'}",
        kernel=list_work,
        types={**dict.fromkeys(pointers, "*i32"), **dict.fromkeys(numbers, "i32")},
        constants={"WHOLE": whole, "SPLIT": SPLIT, "CHUNK": CHUNK, "NEIGHBOURS": FEW_ROWS},
        num_warps=4,
        num_stages=3,
    )


def _compare_tables() -> Configuration:
    pointers = "shared_ptr query_lens_ptr context_lens_ptr table_rows_ptr tables_ptr".split()
    numbers = "table_stride block_shift tile_tokens".split()
    return Configuration(
        op="paged_attention",
        name="compare tables",
        kernel=compare_tables,
        types={**dict.fromkeys(pointers, "*i32"), **dict.fromkeys(numbers, "i32")},
        constants={"SPLIT": SPLIT, "COLUMNS": COLUMNS},
        num_warps=2,
        num_stages=3,
    )
