"""`ScriptedRunner`: a runner with known logits, so that scheduling and searching can be tested without a model.

Its cache holds token ids where a model's would hold keys and values, and each sequence's prefix is read back through
its block table. A wrong block, a missed copy or a block given away too early thus changes the logits, as in a model.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from penstock_engine.batch import Batch, Entry
from penstock_engine.group import Group
from penstock_engine.prompt_reader import PromptReader
from penstock_engine.reading import PartRead
from penstock_kernels import Kernels

Script = Callable[[Sequence[int]], NDArray[np.float32]]

_NEVER_WRITTEN = -1


class ScriptedRunner:
    """`script` gives the logits [vocab] that follow a prefix of token ids. They are the hidden states, too: the head
    changes nothing."""

    def __init__(self, script: Script, *, num_blocks: int, block_size: int) -> None:
        self._script = script
        self._block_size = block_size
        self._cache = np.full(num_blocks * block_size, _NEVER_WRITTEN, np.int64)

    def forward(self, batch: Batch) -> torch.Tensor:
        """See `Runner.forward`."""
        self._write(batch)
        logits = [self._script(self._prefix(entry)) for entry in batch.entries if entry.wants_logits]
        return torch.from_numpy(np.stack(logits).astype(np.float32)) if logits else torch.empty(0, 0)

    def forward_and_read(self, batch: Batch) -> tuple[torch.Tensor, dict[Group, PartRead]]:
        """See `Runner.forward_and_read`."""
        logits = self.forward(batch)
        prefixes = [self._prefix(entry) for entry in batch.entries]
        states = [
            self._script(prefix[: len(prefix) - left])
            for entry, prefix in zip(batch.entries, prefixes, strict=True)
            for left in reversed(range(entry.num_tokens))
        ]
        stacked = torch.from_numpy(np.stack(states).astype(np.float32))
        reader = PromptReader(torch.clone, stacked.shape[1], Kernels.reference())
        return logits, reader.read(batch, stacked)

    def _write(self, batch: Batch) -> None:
        """What a model does to its cache."""
        blocks = self._cache.reshape(-1, self._block_size)
        sources, targets = [source for source, _ in batch.copies], [target for _, target in batch.copies]
        blocks[targets] = blocks[sources]
        for entry in batch.entries:
            start, end = entry.sequence.num_computed, entry.sequence.num_computed + entry.num_tokens
            self._cache[self._places(entry, start, end)] = entry.sequence.tokens(start, end)

    def _prefix(self, entry: Entry) -> list[int]:
        places = self._places(entry, 0, entry.sequence.num_computed + entry.num_tokens)
        prefix: list[int] = self._cache[places].tolist()
        assert _NEVER_WRITTEN not in prefix, "a prefix reads a slot that was never written"
        return prefix

    def _places(self, entry: Entry, start: int, end: int) -> NDArray[np.int64]:
        positions = np.arange(start, end)
        table = np.asarray(entry.sequence.block_table, np.int64)
        return table[positions // self._block_size] * self._block_size + positions % self._block_size
