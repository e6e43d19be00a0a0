"""Penalties on used tokens in Triton: one program for some thousand tokens of a row.

A sequence has used few tokens of its vocabulary. So scores are loaded and stored only where a token was used: of a row
that asks, 2 bytes a token are read for its counts and 1/8 byte for its prompt, and next to nothing of its scores. A row
that asks for nothing is left after three loads.
"""

from collections.abc import Iterator

import triton
import triton.language as tl
from torch import Tensor

from penstock_kernels.configuration import Configuration
from penstock_kernels.penalties import LARGEST_COUNT, PenaltyInputs, UsedTokens

# A program goes through 8 tiles of 1024 tokens, 8 for each thread, whose counts are one load of 16 bytes. A row of
# 131072 is 16 programs: enough for one row alone to spread, and few enough to leave 128 rows that ask for nothing.
WORDS = 32
TILES = 8
NUM_WARPS = 4
ROWS = 128

# s * repetition - subtracted would become one rounding instead of two, and other bits than the reference's.
OPTIONS = {"enable_fp_fusion": False}


@triton.jit(do_not_specialize=["num_words"])
def _penalise(
    scores,  # [rows, vocab]
    slots,  # [rows]
    in_prompt,  # [slots, num_words]
    counts,  # [slots, vocab]
    repetitions,  # [rows], as the next two
    presences,
    frequencies,
    vocab,
    num_words,
    WORDS: tl.constexpr,
    TILES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    repetition = tl.load(repetitions + row)
    presence = tl.load(presences + row)
    frequency = tl.load(frequencies + row)
    repetition = tl.where(repetition == 0.0, 1.0, repetition)
    if (repetition != 1.0) | (presence != 0.0) | (frequency != 0.0):
        slot = tl.load(slots + row).to(tl.int64)
        scores += row * vocab
        counts += slot * vocab
        in_prompt += slot * num_words
        bit = tl.arange(0, 32)
        for tile in range(TILES):
            word = (tl.program_id(1) * TILES + tile) * WORDS + tl.arange(0, WORDS)
            # One row of the tile is one word of the prompt's bits: [WORDS, 32].
            token = word[:, None] * 32 + bit[None, :]
            is_token = token < vocab
            bits = tl.load(in_prompt + word, mask=word < num_words, other=0)
            count = tl.load(counts + token, mask=is_token, other=0)
            in_answer = count > 0
            is_used = is_token & ((((bits[:, None] >> bit[None, :]) & 1) != 0) | in_answer)

            score = tl.load(scores + token, mask=is_used, other=0.0)
            penalised = tl.where(score > 0.0, tl.div_rn(score, repetition), score * repetition)
            subtracted = presence * in_answer.to(tl.float32) + frequency * count.to(tl.float32)
            tl.store(scores + token, penalised - subtracted, mask=is_used)


@triton.jit(do_not_specialize=["num_rows"])
def _count(counts, slots, tokens, num_rows, vocab, LARGEST: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    token = tl.load(tokens + row, mask=is_row, other=-1)
    slot = tl.load(slots + row, mask=is_row, other=0).to(tl.int64)
    # No slot has two tokens: nobody else reads or writes this count, and no atomic addition is needed.
    place = counts + slot * vocab + token
    count = tl.load(place, mask=token >= 0, other=0).to(tl.int32)
    tl.store(place, tl.minimum(count + 1, LARGEST).to(tl.int16), mask=token >= 0)


def penalties(scores: Tensor, slots: Tensor, used: UsedTokens, inputs: PenaltyInputs) -> None:
    """See `Penalties`."""
    num_rows, vocab_size = scores.shape
    if not num_rows:
        return
    num_words = used.in_prompt.shape[1]
    _penalise[(num_rows, triton.cdiv(num_words, WORDS * TILES))](
        scores,
        slots,
        used.in_prompt,
        used.counts,
        inputs.repetition,
        inputs.presence,
        inputs.frequency,
        vocab_size,
        num_words,
        WORDS=WORDS,
        TILES=TILES,
        num_warps=NUM_WARPS,
        **OPTIONS,
    )


def count_tokens(used: UsedTokens, slots: Tensor, tokens: Tensor) -> None:
    """See `CountTokens`."""
    num_rows = len(tokens)
    if not num_rows:
        return
    _count[(triton.cdiv(num_rows, ROWS),)](
        used.counts, slots, tokens, num_rows, used.counts.shape[1], LARGEST=LARGEST_COUNT, ROWS=ROWS, num_warps=4
    )


def configurations(capability: int) -> Iterator[Configuration]:
    """All that the launchers can choose, on any GPU alike."""
    pointers = {"scores": "*fp32", "slots": "*i32", "in_prompt": "*i32", "counts": "*i16"}
    pointers |= dict.fromkeys(("repetitions", "presences", "frequencies"), "*fp32")
    for name, aligned in (("", frozenset(("vocab",))), (" of an odd vocabulary", frozenset[str]())):
        yield Configuration(
            op="penalties",
            name=f"penalise{name}",
            kernel=_penalise,
            types={**pointers, "vocab": "i32", "num_words": "i32"},
            constants={"WORDS": WORDS, "TILES": TILES},
            num_warps=NUM_WARPS,
            num_stages=3,
            aligned=aligned | pointers.keys(),
            options=OPTIONS,
        )
        yield Configuration(
            op="penalties",
            name=f"count{name}",
            kernel=_count,
            types={"counts": "*i16", "slots": "*i32", "tokens": "*i64", "num_rows": "i32", "vocab": "i32"},
            constants={"LARGEST": LARGEST_COUNT, "ROWS": ROWS},
            num_warps=4,
            num_stages=3,
            aligned=aligned | {"counts", "slots", "tokens"},
        )
