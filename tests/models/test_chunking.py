"""However a prompt is cut, and whatever else shares the steps, its logits are those of the prompt fed whole."""

from typing import Any

import pytest
import torch
from checkpoints import VOCAB_SIZE, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_rows import PagedRows

from penstock_kernels import Kernels
from penstock_models.loader import LoadedModel, load_checkpoint

TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def sliding(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("qwen3")
    write_checkpoint(folder, "qwen3", use_sliding_window=True, sliding_window=6, max_window_layers=1)
    return load_checkpoint(folder, dtype="float32", device=torch.device("cpu"), kernels=Kernels.reference())


@given(data=st.data(), prompts=st.lists(TOKENS, min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_chunked_equals_whole(sliding: LoadedModel, data: Any, prompts: list[list[int]]) -> None:
    rows = PagedRows(sliding.decoder)
    left = {row: list(prompt) for row, prompt in enumerate(prompts)}
    last: dict[int, torch.Tensor] = {}
    while left:
        chunks: dict[int, list[int]] = {}
        for row in data.draw(st.lists(st.sampled_from(sorted(left)), min_size=1, unique=True)):
            size = data.draw(st.integers(1, len(left[row])))
            chunks[row], left[row] = left[row][:size], left[row][size:]
        last |= {row: logits[-1] for row, logits in rows.feed(chunks).items()}
        left = {row: rest for row, rest in left.items() if rest}
    for row, prompt in enumerate(prompts):
        whole = PagedRows(sliding.decoder).feed({0: prompt})[0][-1]
        torch.testing.assert_close(last[row], whole, atol=1e-4, rtol=0)
