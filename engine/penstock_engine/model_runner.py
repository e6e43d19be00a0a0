"""`ModelRunner`: turns a batch into tensors and runs the model on it."""

import numpy as np
import torch
from torch import Tensor

from penstock_engine.batch import Batch
from penstock_engine.group import Group
from penstock_engine.prompt_reader import PromptReader
from penstock_engine.reading import PartRead
from penstock_models.batch import ForwardBatch, pack_batch
from penstock_models.decoder import Decoder
from penstock_models.kv_cache import KVCache


class ModelRunner:
    """A decoder and the KV cache that the scheduler's block ids point into."""

    def __init__(
        self, decoder: Decoder, *, num_blocks: int, block_size: int, kv_dtype: torch.dtype | None = None
    ) -> None:
        """`kv_dtype`: of the KV cache; the decoder's own if None."""
        self._decoder = decoder
        self._block_size = block_size
        self._reader = PromptReader(decoder.logits, decoder.spec.vocab_size, decoder.kernels)
        self._cache = KVCache(
            decoder.spec, num_blocks, block_size, kv_dtype or decoder.dtype, decoder.device, decoder.kernels
        )

    @property
    def cache(self) -> KVCache:
        """What block ids point into."""
        return self._cache

    def forward(self, batch: Batch) -> Tensor:
        """See `Runner.forward`."""
        if not batch.entries:
            return torch.empty(0, self._decoder.spec.vocab_size)
        with torch.inference_mode():
            return self._decoder.forward(self._packed(batch), self._cache)

    def forward_and_read(self, batch: Batch) -> tuple[Tensor, dict[Group, PartRead]]:
        """See `Runner.forward_and_read`."""
        with torch.inference_mode():
            packed = self._packed(batch)
            states = self._decoder.hidden_states(packed, self._cache)
            wanted = states
            if packed.logit_rows is not None:
                wanted = self._decoder.kernels.gather_last(states, packed.logit_rows)
            return self._decoder.logits(wanted), self._reader.read(batch, states)

    def _packed(self, batch: Batch) -> ForwardBatch:
        """The batch as tensors, its blocks copied."""
        token_ids: list[int] = []
        logit_rows: list[int] = []
        for entry in batch.entries:
            start = entry.sequence.num_computed
            token_ids += entry.sequence.tokens(start, start + entry.num_tokens)
            if entry.wants_logits:
                logit_rows.append(len(token_ids) - 1)
        if batch.copies:
            self._cache.copy_blocks(batch.copies)
        return pack_batch(
            np.asarray(token_ids, np.int64),
            [entry.num_tokens for entry in batch.entries],
            [entry.sequence.num_computed + entry.num_tokens for entry in batch.entries],
            [entry.sequence.block_table for entry in batch.entries],
            logit_rows,
            self._decoder.spec,
            self._block_size,
            self._decoder.device,
            self._decoder.kernels,
        )
