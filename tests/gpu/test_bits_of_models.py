"""A whole model's logits have the same bits however they were come by.

Real sizes in bf16 on a GPU, small ones under the interpreter.
The yardstick is a prompt fed whole and alone.
"""

from itertools import pairwise

import pytest
import torch
from bitwise_sizes import SIZES, windowed
from kernel_tables import DEVICE, IS_INTERPRETED, table
from paged_rows import PagedRows
from torch import Tensor

from penstock_models.decoder import Decoder
from penstock_models.random_model import random_model

LENGTH = 23 if IS_INTERPRETED else 900
# How many tokens at the end of a prompt are also fed one by one.
TAIL = 2 if IS_INTERPRETED else 20
ROWS = 3 if IS_INTERPRETED else 257
BLOCK_SIZE = 16


@pytest.fixture(scope="module", params=["windowed"] if IS_INTERPRETED else ["plain", "windowed"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    spec = SIZES.model if request.param == "plain" else windowed(SIZES.model, LENGTH // 4)
    return random_model(spec, SIZES.dtype, 0, DEVICE, table("fused_invariant"))


def prompt(row: int) -> list[int]:
    """Random tokens, others for each row."""
    generator = torch.Generator().manual_seed(row)
    tokens: list[int] = torch.randint(0, SIZES.model.vocab_size, (LENGTH,), generator=generator).tolist()
    return tokens


def open_rows(decoder: Decoder, count: int) -> PagedRows:
    """With room for a whole prompt of each."""
    return PagedRows(decoder, num_blocks=(count + 1) * (-(-LENGTH // BLOCK_SIZE) + 1), block_size=BLOCK_SIZE)


def in_pieces(decoder: Decoder, cuts: list[int]) -> Tensor:
    """Row 0 alone, cut at these places: its logits [LENGTH, vocab]."""
    rows, tokens = open_rows(decoder, 1), prompt(0)
    return torch.cat([rows.feed({0: tokens[a:b]})[0] for a, b in pairwise([0, *cuts, LENGTH])])


@pytest.fixture(scope="module")
def whole(decoder: Decoder) -> Tensor:
    return in_pieces(decoder, [])


def test_whole_in_chunks_and_token_by_token(decoder: Decoder, whole: Tensor) -> None:
    assert torch.isfinite(whole).all()
    assert torch.equal(in_pieces(decoder, []), whole)
    assert torch.equal(in_pieces(decoder, [1, LENGTH // 3, LENGTH // 2]), whole)
    assert torch.equal(in_pieces(decoder, list(range(LENGTH - TAIL, LENGTH))), whole)


def test_in_a_crowd(decoder: Decoder, whole: Tensor) -> None:
    """Row 0 decodes its last tokens among others with prompts of other lengths."""
    rows = open_rows(decoder, ROWS)
    starts = {row: LENGTH - TAIL - row % (LENGTH // 2) for row in range(ROWS)}
    first = rows.feed({0: prompt(0)[: starts[0]]})[0]
    for row in range(1, ROWS):
        rows.feed({row: prompt(row)[: starts[row]]})
    steps = [rows.feed({row: [prompt(row)[starts[row] + step]] for row in range(ROWS)})[0] for step in range(TAIL)]
    assert torch.equal(torch.cat([first, *steps]), whole)


def test_forks_that_share_a_prefix(decoder: Decoder) -> None:
    """Forks of one row, side by side and so read together, each have what they have alone."""
    count = min(ROWS, 33)
    rows = open_rows(decoder, count)
    rows.feed({0: prompt(0)})
    for row in range(1, count):
        rows.fork(0, row)
    steps = [rows.feed({row: [prompt(row)[step]] for row in range(count)}) for step in range(TAIL)]
    for row in (0, count - 1):
        alone = open_rows(decoder, 1)
        alone.feed({0: prompt(0)})
        for step in range(TAIL):
            assert torch.equal(alone.feed({0: [prompt(row)[step]]})[0], steps[step][row])


def test_a_prefix_hit(decoder: Decoder, whole: Tensor) -> None:
    """A row that begins in another's cached blocks has the logits of one that computed them."""
    rows = open_rows(decoder, 2)
    rows.feed({0: prompt(0)})
    num_blocks = LENGTH // BLOCK_SIZE
    rows.share(0, 1, num_blocks)
    assert torch.equal(rows.feed({1: prompt(0)[num_blocks * BLOCK_SIZE :]})[1], whole[num_blocks * BLOCK_SIZE :])
