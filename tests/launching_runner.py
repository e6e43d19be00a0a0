"""`ScriptedLaunches`: a scripted runner that launches steps, and computes them as late as a slow device would."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from penstock_decoding.draws import PerturbedTokens
from penstock_decoding.processor import Row
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_decoding.sampler import Sampler
from penstock_engine.batch import Batch
from penstock_engine.scripted import Script, ScriptedRunner

TAKEN = {"penalties", "temperature", "top_k", "top_p", "min_p"}


class ScriptedLaunches(ScriptedRunner):
    """Tokens of launched steps are known only here until they are waited for, and read back from its own cache.

    `is_late`: a step is computed when it is waited for; else at once. `most_tokens`: a step is refused if its sequences
    have more together.
    """

    def __init__(
        self, script: Script, *, num_blocks: int, block_size: int, is_late: bool = True, most_tokens: int = 10**9
    ) -> None:
        super().__init__(script, num_blocks=num_blocks, block_size=block_size)
        self._is_late = is_late
        self._most_tokens = most_tokens
        self._queue: deque[ScriptedStep] = deque()
        self._last_token: dict[int, int] = {}
        self.num_launched = 0
        self.num_forwards = 0
        self.most_under_way = 0

    def forward(self, batch: Batch) -> torch.Tensor:
        assert not self._queue, "a step is under way"
        self.num_forwards += 1
        return super().forward(batch)

    def takes(self, row: SampleRow) -> bool:
        is_plain = row.num_processed_logprobs is None and not row.chain_trace
        is_single = not isinstance(row.draw, PerturbedTokens) and not row.draw.with_logprobs
        return is_plain and is_single and {step.name for step in row.chain} <= TAKEN

    def launch(self, batch: Batch, rows: Sequence[SampleRow]) -> "ScriptedStep | None":
        assert not batch.copies
        if sum(entry.sequence.num_computed + 1 for entry in batch.entries) > self._most_tokens:
            return None
        self.num_launched += 1
        for entry, row in zip(batch.entries, rows, strict=True):
            assert entry.num_tokens == 1
            assert entry.sequence.slot == row.row.slot
        own = [
            LaunchedRow(
                row,
                position=entry.sequence.num_computed,
                # A token that the host knows; the device knows the others.
                token=None if entry.sequence.num_flying else entry.sequence.output[-1],
                places=self._places(entry, 0, entry.sequence.num_computed + 1),
            )
            for entry, row in zip(batch.entries, rows, strict=True)
        ]
        step = ScriptedStep(self, own)
        self._queue.append(step)
        self.most_under_way = max(self.most_under_way, len(self._queue))
        if not self._is_late:
            step.compute()
        return step

    def release(self, slot: int) -> None:
        """What a step under way still computes for the slot is nobody's."""

    def compute(self, rows: Sequence["LaunchedRow"]) -> list[RowDraws]:
        """What a device does: write the last tokens, compute, choose, remember."""
        for row in rows:
            token = self._last_token[row.asked.row.slot] if row.token is None else row.token
            self._cache[row.places[-1]] = token
        prefixes = [self._cache[row.places].tolist() for row in rows]
        logits = np.stack([self._script(prefix) for prefix in prefixes]).astype(np.float32)
        asked = [
            replace(row.asked, row=row.as_known(i, prefix))
            for i, (row, prefix) in enumerate(zip(rows, prefixes, strict=True))
        ]
        drawn = Sampler().sample(torch.from_numpy(logits), asked)
        for row, draws in zip(rows, drawn, strict=True):
            self._last_token[row.asked.row.slot] = int(draws.tokens[0])
        return drawn

    def landed(self, step: "ScriptedStep") -> None:
        """The step has been waited for."""
        assert self._queue.popleft() is step, "steps are waited for in the order in which they were launched"


@dataclass(frozen=True, slots=True)
class LaunchedRow:
    """What a device is told of a row. `token`: its last one; None: the one that was chosen last for the slot."""

    asked: SampleRow
    position: int
    token: int | None
    places: NDArray[np.int64]

    def as_known(self, index: int, prefix: list[int]) -> Row:
        """The row with the tokens that the device knows."""
        num_prompt = len(self.asked.row.prompt)
        return replace(self.asked.row, index=index, prompt=prefix[:num_prompt], output=prefix[num_prompt:])


class ScriptedStep:
    """A launched step of `ScriptedLaunches`."""

    def __init__(self, runner: ScriptedLaunches, rows: Sequence[LaunchedRow]) -> None:
        self._runner = runner
        self._rows = rows
        self._drawn: list[RowDraws] | None = None

    def compute(self) -> list[RowDraws]:
        if self._drawn is None:
            self._drawn = self._runner.compute(self._rows)
        return self._drawn

    def draws(self) -> list[RowDraws]:
        drawn = self.compute()
        self._runner.landed(self)
        return drawn
