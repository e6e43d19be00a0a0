"""Launches the passes, and says which kernels they are."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.sample import NO_TOKEN, NOT_FINITE, SampleInputs
from penstock_kernels.sample.fused.cut import TILE, cut_kernel, gather_kernel
from penstock_kernels.sample.fused.passes import draw_kernel, peaks_kernel, survey_kernel, weigh_kernel
from penstock_kernels.sample.fused.pivots import NUM_PIVOTS
from penstock_kernels.sample.fused.rows import CHUNK, MAX_CHUNKS, ROW_INPUTS

OPTIONS = {"enable_fp_fusion": False}
"""A fused multiply-add rounds once where the arithmetic of weights.py rounds twice."""

FAULTS = {"NO_TOKEN": NO_TOKEN, "NOT_FINITE": NOT_FINITE}

NUM_WARPS: Mapping[Any, int] = {
    peaks_kernel: 4,  # 32 scores a thread, eight 16-byte loads on their way at once
    survey_kernel: 8,  # 16 scores a thread, each with its weight: 48 registers
    gather_kernel: 8,
    cut_kernel: 8,
    weigh_kernel: 8,
    draw_kernel: 8,
}


def sample(scores: Tensor, inputs: SampleInputs) -> Tensor:
    """See `Sample`."""
    num_rows, vocab = scores.shape
    num_chunks = -(-vocab // CHUNK.value)
    assert num_chunks <= MAX_CHUNKS.value, f"a vocabulary of {vocab} is more than 2^20"
    tokens = torch.empty(num_rows, dtype=torch.int64, device=scores.device)
    if num_rows == 0:
        return tokens
    cuts = inputs.with_cuts

    def scratch(dtype: torch.dtype, *shape: int, is_needed: bool = True) -> Tensor:
        return torch.empty(shape if is_needed else 0, dtype=dtype, device=scores.device)

    def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
        kernel[grid](*args, **constants, num_warps=NUM_WARPS[kernel], num_stages=1, **OPTIONS)

    peaks = scratch(torch.float32, num_rows, num_chunks)
    masses = scratch(torch.int64, num_rows, num_chunks)
    counts_above = scratch(torch.int32, num_rows, NUM_PIVOTS.value, is_needed=cuts)
    masses_above = scratch(torch.int64, num_rows, NUM_PIVOTS.value, is_needed=cuts)
    num_candidates = scratch(torch.int32, num_rows, is_needed=cuts)
    found = scratch(torch.int32, num_rows, is_needed=cuts)
    above = (counts_above, masses_above)
    asked = (inputs.temperature, inputs.top_k, inputs.top_p)
    chunks, rows = (num_chunks, num_rows), (num_rows,)
    launch(peaks_kernel, chunks, scores, peaks, *above, num_candidates, vocab, CUTS=cuts)
    launch(survey_kernel, chunks, scores, peaks, *asked, inputs.min_p, masses, *above, vocab, CUTS=cuts)
    if cuts:
        # As many candidates as there are scores, if all of a row are equal.
        candidates = scratch(torch.int32, num_rows, -(-vocab // 16) * 16)
        narrowed = scratch(torch.int32, num_rows, TILE.value)
        launch(gather_kernel, chunks, scores, peaks, *asked, *above, num_candidates, candidates, vocab)
        launch(cut_kernel, rows, peaks, *asked, *above, num_candidates, candidates, narrowed, found, vocab)
        launch(weigh_kernel, chunks, scores, peaks, found, *asked, inputs.min_p, masses, vocab)
    draws = (inputs.seed, inputs.sample, inputs.position)
    limits = (*asked, inputs.min_p)
    launch(draw_kernel, rows, scores, peaks, masses, found, *limits, *draws, tokens, vocab, CUTS=cuts, **FAULTS)
    return tokens


_TYPES = {
    "scores": "*fp32",
    "peaks": "*fp32",
    "counts_above": "*i32",
    "masses_above": "*i64",
    "num_candidates": "*i32",
    "candidates": "*i32",
    "narrowed": "*i32",
    "cuts": "*i32",
    "masses": "*i64",
    "tokens": "*i64",
    "temperatures": "*fp32",
    "top_ks": "*i32",
    "top_ps": "*fp32",
    "min_ps": "*fp32",
    "seeds": "*i64",
    "samples": "*i32",
    "positions": "*i32",
    "vocab": "i32",
}


def configurations(capability: int) -> Iterator[Configuration]:
    """Every kernel with and without cuts, for vocabularies that are a multiple of 16 and for others."""
    for kernel, num_warps in NUM_WARPS.items():
        constants = FAULTS if kernel is draw_kernel else {}
        variants = [constants]
        if "CUTS" in kernel.arg_names:
            variants = [{"CUTS": cuts, **constants} for cuts in (False, True)]
        for variant in variants:
            for is_multiple in (True, False):
                types = {name: _TYPES[name] for name in kernel.arg_names if name in _TYPES}
                unaligned = {*ROW_INPUTS} if is_multiple else {*ROW_INPUTS, "vocab"}
                yield Configuration(
                    op="sample",
                    name=" ".join(
                        [
                            kernel.__name__.removesuffix("_kernel"),
                            *(["with cuts"] if variant.get("CUTS") else []),
                            "vocab % 16 == 0" if is_multiple else "any vocab",
                        ]
                    ),
                    kernel=kernel,
                    types=types,
                    constants=variant,
                    num_warps=num_warps,
                    num_stages=1,
                    aligned=frozenset(types) - unaligned,
                    options=OPTIONS,
                )
