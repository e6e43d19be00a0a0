"""`pack_batch`, and that a row's logits do not depend on what shares its batch."""

from typing import Any

import numpy as np
import pytest
import torch
from paged_rows import PagedRows

from penstock_kernels import Kernels
from penstock_models.batch import pack_batch
from penstock_models.decoder import Decoder
from penstock_models.loader import LoadedModel

CPU = torch.device("cpu")


def test_positions_slots_and_rows(llama: LoadedModel) -> None:
    batch = pack_batch(
        np.array([10, 20, 21, 22, 30], dtype=np.int64),
        [1, 3, 1],
        [6, 5, 1],
        [[7, 2], [9, 4, 5], [3]],
        [4, 0],
        llama.spec,
        4,
        CPU,
        Kernels.reference(),
    )
    assert batch.token_ids.tolist() == [10, 20, 21, 22, 30]
    assert batch.positions.tolist() == [5, 2, 3, 4, 0]
    assert batch.slot_mapping.tolist() == [2 * 4 + 1, 9 * 4 + 2, 9 * 4 + 3, 4 * 4, 3 * 4]
    assert batch.logit_rows is not None and batch.logit_rows.tolist() == [4, 0]


@pytest.mark.parametrize(
    ("query_lens", "context_lens", "tables", "told"),
    [
        ([0], [4], [[1]], "0 new tokens"),
        ([2], [1], [[1]], "2 new tokens, 1 keys"),
        ([2], [5], [[1]], "1 blocks of 4"),
        ([2], [4, 4], [[1], [2]], "1 query lengths, 2 context lengths"),
        ([1], [4], [[1]], "2 tokens, but the query lengths add up to 1"),
    ],
)
def test_contradictions(llama: LoadedModel, query_lens: Any, context_lens: Any, tables: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pack_batch(np.array([1, 2]), query_lens, context_lens, tables, [0], llama.spec, 4, CPU, Kernels.reference())


def test_logits_only_for_the_rows_asked_for(llama: LoadedModel) -> None:
    rows = PagedRows(llama.decoder)
    everything = rows.feed({0: list(range(20))})[0]
    again = pack_batch(np.arange(20), [20], [20], [rows.tables[0]], [3, 19, 3], llama.spec, 4, CPU, Kernels.reference())
    some = llama.decoder.forward(again, rows.cache)
    assert some.is_contiguous() and some.dtype == torch.float32
    torch.testing.assert_close(some, everything[[3, 19, 3]], atol=1e-4, rtol=0)
    none = pack_batch(np.arange(20), [20], [20], [rows.tables[0]], [], llama.spec, 4, CPU, Kernels.reference())
    assert llama.decoder.forward(none, rows.cache).shape == (0, llama.spec.vocab_size)


def test_a_broken_neighbour_does_not_spread(llama: LoadedModel) -> None:
    """A row whose cache holds NaN shares batches with sound rows, and sound rows take over its blocks."""
    rows = PagedRows(llama.decoder)
    rows.feed({0: [1, 2, 3], 1: [4, 5, 6, 7, 8]})
    rows.cache.storage[:, rows.tables[0]] = float("nan")
    step = rows.feed({0: [9], 1: [9]})
    assert step[0].isnan().any() and not step[1].isnan().any()
    rows.tables[2] = rows.tables[0]
    rows.lengths[2] = 0
    assert not rows.feed({2: [1], 1: [3]})[2].isnan().any()


def test_decoding_alone_equals_decoding_among_others(llama: LoadedModel) -> None:
    assert _alone_and_among(llama.decoder) < 1e-4


def _alone_and_among(decoder: Decoder) -> float:
    prompts = {0: [1, 2, 3], 1: list(range(40)), 2: list(range(100, 180)), 3: list(range(7, 30))}
    together, worst = PagedRows(decoder), 0.0
    together.feed(prompts)
    among = together.feed({row: [5] for row in prompts})
    for row, prompt in prompts.items():
        alone = PagedRows(decoder)
        alone.feed({row: prompt})
        worst = max(worst, float((alone.feed({row: [5]})[row] - among[row]).abs().max()))
    return worst
