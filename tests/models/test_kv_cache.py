"""Block storage: sizes, copies, and forks that decode apart from a shared prompt."""

import pytest
import torch
from paged_rows import PagedRows

from penstock_models.kv_cache import KVCache
from penstock_models.loader import LoadedModel

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn])
def test_bytes_per_block(llama: LoadedModel, dtype: torch.dtype) -> None:
    cache = KVCache(llama.spec, num_blocks=7, block_size=5, dtype=dtype, device=CPU)
    num_bytes = cache.storage.nbytes + (0 if cache.scales is None else cache.scales.nbytes)
    assert KVCache.bytes_per_block(llama.spec, 5, dtype) * 7 == num_bytes


def test_copies_read_before_they_write(llama: LoadedModel) -> None:
    cache = KVCache(llama.spec, num_blocks=6, block_size=4, dtype=torch.float32, device=CPU)
    cache.storage.copy_(torch.arange(6.0).view(1, 6, 1, 1, 1, 1).expand_as(cache.storage))
    cache.copy_blocks([(0, 1), (1, 0), (2, 4)])
    cache.copy_blocks([])
    for layer in cache.layers:
        blocks = layer.values.view(6, 4, *layer.values.shape[1:])
        assert blocks[:, 0, 0, 0, 0].tolist() == [1, 0, 2, 3, 2, 5]
        assert (blocks == blocks[:, :1, :1, :1, :1]).all()


@pytest.mark.parametrize("prompt_len", [7, 8, 9])
def test_forks_decode_apart(llama: LoadedModel, prompt_len: int) -> None:
    prompt = list(range(50, 50 + prompt_len))
    rows = PagedRows(llama.decoder)
    rows.feed({0: prompt})
    rows.fork(0, 1)
    rows.fork(0, 2)
    rows.feed({0: [1], 1: [2], 2: [3, 4]})
    forked = rows.feed({2: [9], 0: [9], 1: [9]})
    for row, tail in {0: [1, 9], 1: [2, 9], 2: [3, 4, 9]}.items():
        alone = PagedRows(llama.decoder).feed({0: prompt + tail})[0][-1:]
        torch.testing.assert_close(forked[row], alone, atol=1e-4, rtol=0)
