"""The invariant kernels: a token's logits have the same bits whatever shares its batch, however its prompt is cut."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import FAMILY_NAMES, VOCAB_SIZE, write_checkpoint
from paged_rows import PagedRows
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.decoder import Decoder
from penstock_models.dtype import cpu_has_fast_bfloat16
from penstock_models.loader import load_checkpoint

pytestmark = pytest.mark.skipif(not cpu_has_fast_bfloat16(), reason="the CPU has no bf16 instructions")

LENGTH = 150
HEADS_OF_32: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 32},
    "mistral": {"head_dim": 32},
    "qwen2": {"hidden_size": 192},
    "qwen3": {"head_dim": 32},
    "gpt2": {"n_embd": 192},
}


@pytest.fixture(params=FAMILY_NAMES)
def decoder(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    """A family's checkpoint in bf16: heads of 32 features, as this needs; other sizes that are no matrix tile's."""
    write_checkpoint(tmp_path, request.param, **HEADS_OF_32[request.param])
    return load_checkpoint(tmp_path, dtype="bfloat16", device=torch.device("cpu"), kernels=Kernels.invariant()).decoder


def prompt(row: int) -> list[int]:
    """Random tokens, others for each row."""
    tokens: list[int] = torch.randint(1, VOCAB_SIZE, (LENGTH,), generator=torch.Generator().manual_seed(row)).tolist()
    return tokens


def in_pieces(decoder: Decoder, cuts: Sequence[int]) -> Tensor:
    """Row 0 alone, cut at these places: its logits [LENGTH, vocab]."""
    rows, tokens = PagedRows(decoder), prompt(0)
    places = [0, *cuts, LENGTH]
    return torch.cat([rows.feed({0: tokens[a:b]})[0] for a, b in pairwise(places)])


def in_a_crowd(decoder: Decoder, num_rows: int) -> Tensor:
    """Row 0 among others, each with its own prompt length, then all decoding side by side."""
    rows = PagedRows(decoder, num_blocks=64 * num_rows)
    starts = {row: 90 - row for row in range(num_rows)}
    parts = [rows.feed({row: prompt(row)[: starts[row]] for row in range(num_rows)})[0]]
    for step in range(LENGTH - 90):
        parts.append(rows.feed({row: [prompt(row)[starts[row] + step]] for row in range(num_rows)})[0])
    return torch.cat(parts)


def test_the_same_bits_alone_in_pieces_and_in_a_crowd(decoder: Decoder) -> None:
    """One pass over the prompt is the yardstick: token by token, in odd chunks, among 3, 33 and 70 rows."""
    whole = in_pieces(decoder, [])
    assert torch.equal(in_pieces(decoder, range(1, LENGTH)), whole)
    assert torch.equal(in_pieces(decoder, [33, 34, 66, 149]), whole)
    for num_rows in (3, 33, 70):
        assert torch.equal(in_a_crowd(decoder, num_rows), whole)
