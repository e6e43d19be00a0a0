"""`GraphRunner`: a runner that also launches decoding steps: model and sampling in one go, as a CUDA graph on a GPU.

What a step needs of a sequence stays on the device: its last token, its block table, what it has used. The host sends
for each row where it stands and how its token is chosen, and now and then a block: one copy there and one back.
Everything goes through one stream: a step sees what the steps before it wrote, and the host waits for a step's tokens
and for nothing else.
"""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from penstock_decoding.device_sampler import DeviceChoice, DeviceSampler, Variant
from penstock_decoding.sample_row import RowDraws, SampleRow
from penstock_engine.batch import Batch
from penstock_engine.decoding_step import PACKED_WIDTH, DecodingStep, Packed
from penstock_engine.device_slots import DeviceSlots
from penstock_engine.group import Group
from penstock_engine.model_runner import ModelRunner
from penstock_engine.reading import PartRead
from penstock_engine.recordings import CudaGraphs, Eager, Recordings, ladder
from penstock_kernels.step_inputs import LAST_TOKEN
from penstock_models.decoder import Decoder


class GraphRunner:
    """A runner that launches steps."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        num_blocks: int,
        block_size: int,
        max_rows: int,
        max_context: int,
        cuda_graphs: bool,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        """
        Args:
            num_blocks: that the scheduler gives away; one more is kept for padding.
            max_rows: of a batch. max_context: tokens of a sequence.
            cuda_graphs: steps are recorded when they are first met, which holds that step up; see also `record`.
        """
        self._model = ModelRunner(decoder, num_blocks=num_blocks + 1, block_size=block_size, kv_dtype=kv_dtype)
        self._on_gpu = decoder.device.type == "cuda"
        self._slots = DeviceSlots(max_rows)
        self._sampler = DeviceSampler(decoder.kernels, decoder.spec.vocab_size, max_rows + 1, decoder.device)
        self._tables = SentTables()
        self._ladder = ladder(max_rows)
        self._recordings: Recordings[DeviceChoice] = CudaGraphs(decoder.device) if cuda_graphs else Eager()
        with torch.inference_mode():
            self._step = DecodingStep(
                decoder,
                self._model.cache,
                self._sampler,
                max_rows=max_rows,
                max_context=max_context,
                padding_block=num_blocks,
            )

    @torch.inference_mode()
    def record(self) -> None:
        """Record the steps that most batches need, without penalties and log-probabilities, for every number of rows in
        the ladder: 70 graphs for 256 rows."""
        # The largest first: the smaller ones then find room in the memory that it took.
        for num_rows in reversed(self._ladder):
            for with_cuts in (False, True):
                self._recorded(num_rows, Variant(with_cuts=with_cuts))

    def forward(self, batch: Batch) -> Tensor:
        """See `Runner.forward`."""
        return self._model.forward(batch)

    def forward_and_read(self, batch: Batch) -> tuple[Tensor, dict[Group, PartRead]]:
        """See `Runner.forward_and_read`."""
        return self._model.forward_and_read(batch)

    def takes(self, row: SampleRow) -> bool:
        """See `LaunchingRunner.takes`."""
        return self._sampler.takes(row)

    @torch.inference_mode()
    def launch(self, batch: Batch, rows: Sequence[SampleRow]) -> "LaunchedStep | None":
        """See `LaunchingRunner.launch`."""
        sequences = [entry.sequence for entry in batch.entries]
        positions = np.asarray([sequence.num_computed for sequence in sequences], np.int64)
        if not self._step.plan.can_hold(positions + 1):
            return None
        num_rows = self._ladder[bisect_left(self._ladder, len(rows))]
        key = self._recorded(num_rows, self._sampler.variant(rows))
        slots, new = self._slots.rows([sequence.slot for sequence in sequences])
        for slot in new:
            self._forget(slot)

        # A buffer of its own: torch gives pinned memory out again only when the copy out of it has been made.
        buffer = torch.zeros(num_rows * PACKED_WIDTH, dtype=torch.int32, pin_memory=self._on_gpu)
        packed = Packed.over(buffer.numpy(), num_rows)
        count = len(rows)
        packed.rows[:count, 0] = slots
        packed.rows[:count, 1] = positions
        packed.rows[:count, 2] = [LAST_TOKEN if each.num_flying else each.output[-1] for each in sequences]
        grown, replaced = self._tables.bring_up_to_date(slots, [sequence.block_table for sequence in sequences])
        if grown:
            packed.new_blocks[: len(grown)] = grown
        if replaced:
            self._step.load_tables(list(replaced), list(replaced.values()), self._on_gpu)
        self._sampler.encode(rows, slots, positions + 1, packed.words)
        self._step.write(buffer)
        return LaunchedStep(self._recordings.play(key), rows, self._sampler, self._on_gpu)

    def release(self, slot: int) -> None:
        """See `LaunchingRunner.release`."""
        row = self._slots.release(slot)
        if row is not None:
            self._forget(row)

    def _recorded(self, num_rows: int, variant: Variant) -> tuple[int, Variant]:
        """The key of a step that is ready to be played."""
        key = num_rows, variant
        if key not in self._recordings:
            # Recording runs the step: with padding alone it changes nothing that a sequence has.
            self._step.clear()
            self._recordings.record(key, lambda: self._step.run(num_rows, variant))
        return key

    def _forget(self, slot: int) -> None:
        self._tables.forget(slot)
        self._sampler.release(slot)


class LaunchedStep:
    """A step of `GraphRunner` on its way, and the copy of what it chose."""

    def __init__(self, choice: DeviceChoice, rows: Sequence[SampleRow], sampler: DeviceSampler, on_gpu: bool) -> None:
        self._rows = rows
        self._sampler = sampler
        self._words = torch.empty(choice.words.shape, dtype=torch.int32, pin_memory=on_gpu)
        self._words.copy_(choice.words, non_blocking=True)
        self._is_copied: torch.cuda.Event | None = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        if self._is_copied is not None:
            self._is_copied.record()

    def draws(self) -> list[RowDraws]:
        """See `LaunchedStep.draws` of `runner.py`."""
        if self._is_copied is not None:
            self._is_copied.synchronize()
        return self._sampler.draws(self._rows, self._words.numpy()[: len(self._rows)])


class SentTables:
    """What the device has of each row's block table. A table only grows, or it is another list: see `Sequence`."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[list[int], int]] = {}

    def bring_up_to_date(
        self, slots: Sequence[int], tables: Sequence[list[int]]
    ) -> tuple[list[tuple[int, int, int]], dict[int, list[int]]]:
        """What the device lacks: (slot, column, block) for tables with one block more, and whole tables by slot."""
        grown: list[tuple[int, int, int]] = []
        replaced: dict[int, list[int]] = {}
        for slot, table in zip(slots, tables, strict=True):
            known, num_sent = self._sent.get(slot, (None, 0))
            num_blocks = len(table)
            if known is table and num_sent == num_blocks:
                continue
            if known is table and num_sent == num_blocks - 1:
                grown.append((slot, num_sent, table[num_sent]))
            else:
                replaced[slot] = table
            self._sent[slot] = table, num_blocks
        return grown, replaced

    def forget(self, slot: int) -> None:
        """The slot's table is another sequence's."""
        self._sent.pop(slot, None)
