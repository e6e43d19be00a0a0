"""`PagedRows`: drives a decoder through the paged cache the way the engine does, with blocks scattered on purpose."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from penstock_models.batch import pack_batch
from penstock_models.decoder import Decoder
from penstock_models.kv_cache import KVCache


class PagedRows:
    """Sequences of one decoder, by number. Blocks are handed out in random order and never returned."""

    def __init__(
        self, decoder: Decoder, *, num_blocks: int = 128, block_size: int = 4, kv_dtype: torch.dtype | None = None
    ) -> None:
        """`kv_dtype`: of the cache; the decoder's own if None."""
        self.decoder = decoder
        dtype = kv_dtype or decoder.dtype
        self.cache = KVCache(decoder.spec, num_blocks, block_size, dtype, decoder.device, decoder.kernels)
        # What no one wrote must not matter: a NaN that leaks through shows in every later logit.
        self.cache.storage.fill_(127 if dtype == torch.int8 else float("nan"))
        if self.cache.scales is not None:
            self.cache.scales.fill_(float("nan"))
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}
        self._free = np.random.default_rng(0).permutation(num_blocks).tolist()

    def feed(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, Tensor]:
        """One step: append tokens to each row. Returns the logits [tokens, vocab] of every row's new tokens."""
        block_size = self.cache.block_size
        for row, new in tokens.items():
            self.lengths[row] = self.lengths.get(row, 0) + len(new)
            table = self.tables.setdefault(row, [])
            while len(table) * block_size < self.lengths[row]:
                table.append(self._free.pop())
        query_lens = [len(new) for new in tokens.values()]
        batch = pack_batch(
            np.array([token for new in tokens.values() for token in new], dtype=np.int64),
            query_lens,
            [self.lengths[row] for row in tokens],
            [self.tables[row] for row in tokens],
            list(range(sum(query_lens))),
            self.decoder.spec,
            block_size,
            self.decoder.device,
            self.decoder.kernels,
        )
        logits = self.decoder.forward(batch, self.cache)
        return dict(zip(tokens, torch.split(logits, query_lens), strict=True))

    def fork(self, parent: int, child: int) -> None:
        """Let `child` continue from where `parent` is, sharing all blocks but an unfinished last one."""
        block_size = self.cache.block_size
        self.lengths[child] = self.lengths[parent]
        self.tables[child] = list(self.tables[parent])
        if self.lengths[parent] % block_size:
            self.tables[child][-1] = self._free.pop()
            self.cache.copy_blocks([(self.tables[parent][-1], self.tables[child][-1])])

    def share(self, parent: int, child: int, num_blocks: int) -> None:
        """Let `child` begin with the parent's first blocks, as a prefix hit does."""
        self.tables[child] = self.tables[parent][:num_blocks]
        self.lengths[child] = num_blocks * self.cache.block_size

    def greedy(self, prompts: Mapping[int, Sequence[int]], num_tokens: int) -> dict[int, list[int]]:
        """Greedy answers of all rows, decoded in one batch."""
        answers: dict[int, list[int]] = {row: [] for row in prompts}
        step: Mapping[int, Sequence[int]] = prompts
        for _ in range(num_tokens):
            for row, logits in self.feed(step).items():
                answers[row].append(int(logits[-1].argmax()))
            step = {row: answer[-1:] for row, answer in answers.items()}
        return answers
