"""The decoder in two halves, hidden states and head: transformers is the oracle of the first, `forward` of both."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import FAMILY_NAMES

from penstock_models.batch import ForwardBatch, pack_batch
from penstock_models.decoder import Decoder
from penstock_models.kv_cache import KVCache

PROMPT = list(range(40, 61))


def batch(decoder: Decoder, logit_rows: list[int]) -> tuple[ForwardBatch, KVCache]:
    """All of the prompt in one pass, and a cache for it."""
    cache = KVCache(decoder.spec, 6, 4, decoder.dtype, decoder.device, decoder.kernels)
    tokens, tables = np.asarray(PROMPT, np.int64), [list(range(6))]
    lengths = [len(PROMPT)]
    packed = pack_batch(tokens, lengths, lengths, tables, logit_rows, decoder.spec, 4, decoder.device, decoder.kernels)
    return packed, cache


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_hidden_states_are_what_stands_before_the_head(oracle: Any, family: str) -> None:
    """Of every token, whichever logits are wanted; their head gives the logits of `forward`, a row by itself too."""
    model, loaded = oracle(family)
    packed, cache = batch(loaded.decoder, [3, 20])
    states = loaded.decoder.hidden_states(packed, cache)
    with torch.no_grad():
        expected = model.base_model(torch.tensor([PROMPT])).last_hidden_state[0]
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)
    whole = loaded.decoder.forward(*batch(loaded.decoder, list(range(len(PROMPT)))))
    torch.testing.assert_close(loaded.decoder.logits(states), whole, atol=1e-5, rtol=0)
    some = loaded.decoder.forward(*batch(loaded.decoder, [3, 20]))
    torch.testing.assert_close(loaded.decoder.logits(states[[3, 20]]), some, atol=1e-5, rtol=0)
