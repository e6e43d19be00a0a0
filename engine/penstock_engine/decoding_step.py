"""`DecodingStep`: a whole decoding step on the device, from packed numbers to tokens, over tensors that stay in place.

    packed   [rows | new blocks | words]     all that the host says in a step, in one copy
             prepare_step                    token ids, positions, cache slots; block tables brought up to date
             plan.refresh, decoder           logits
             sampler.choose                  tokens, which become the last tokens of their slots

Only the reference's attention plan reads values back to the host; with fused kernels a CUDA graph can hold it all.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock_decoding.device_sampler import DeviceChoice, DeviceSampler, Variant
from penstock_kernels.paged_attention import DecodingPlan, DecodingRows
from penstock_kernels.step_inputs import SlotTable, StepInputs
from penstock_models.batch import ForwardBatch, attention_shape
from penstock_models.decoder import Decoder
from penstock_models.kv_cache import KVCache

# int32 numbers of a row and of a change to a block table: see `PrepareStep`.
ROW_WIDTH = 3


@dataclass(frozen=True, slots=True)
class Packed:
    """What the host says of a step of so many rows, padding included; views of one array. All int32.

    rows, new_blocks: [rows, 3], see `PrepareStep`; in one step no sequence gets more than one block. words: what
    `DeviceSampler.encode` writes. Zeros are padding.
    """

    whole: NDArray[np.int32]
    rows: NDArray[np.int32]
    new_blocks: NDArray[np.int32]
    words: NDArray[np.int32]

    @classmethod
    def over(cls, whole: NDArray[np.int32], num_rows: int) -> "Packed":
        """Views of zeros [num_rows * PACKED_WIDTH]."""
        middle, end = num_rows * ROW_WIDTH, num_rows * 2 * ROW_WIDTH
        return cls(
            whole,
            whole[:middle].reshape(num_rows, ROW_WIDTH),
            whole[middle:end].reshape(num_rows, ROW_WIDTH),
            whole[end:].reshape(num_rows, DeviceSampler.WIDTH),
        )


PACKED_WIDTH = 2 * ROW_WIDTH + DeviceSampler.WIDTH
"""int32 numbers that the host says of each row."""


class DecodingStep:
    """The tensors of a step and what is done with them. Row 0 of the tables is for padding."""

    def __init__(
        self,
        decoder: Decoder,
        cache: KVCache,
        sampler: DeviceSampler,
        *,
        max_rows: int,
        max_context: int,
        padding_block: int,
    ) -> None:
        """`padding_block`: a block that belongs to no sequence, for padding rows to write to."""
        device = decoder.device
        self._decoder = decoder
        self._cache = cache
        self._sampler = sampler
        num_columns = -(-max_context // cache.block_size)
        self.table = SlotTable(
            last_token=torch.zeros(max_rows + 1, dtype=torch.int64, device=device),
            block_tables=torch.zeros(max_rows + 1, num_columns, dtype=torch.int32, device=device),
        )
        self.table.block_tables[0] = padding_block
        self._packed = torch.zeros(max_rows * PACKED_WIDTH, dtype=torch.int32, device=device)
        longs = [torch.zeros(max_rows, dtype=torch.int64, device=device) for _ in range(3)]
        ints = [torch.zeros(max_rows, dtype=torch.int32, device=device) for _ in range(2)]
        self._inputs = StepInputs(*longs, *ints)
        rows = DecodingRows(self._inputs.context_lens, self._inputs.slots, self.table.block_tables, cache.block_size)
        self.plan = decoder.kernels.plan_decoding(rows, attention_shape(decoder.spec), max_context)
        self._plans: dict[int, DecodingPlan] = {}

    def clear(self) -> None:
        """Make all rows padding."""
        self._packed.zero_()

    def write(self, packed: Tensor) -> None:
        """Say what the next step is, without waiting for the copy: the host must leave the numbers alone until then."""
        self._packed[: len(packed)].copy_(packed, non_blocking=True)

    def run(self, num_rows: int, variant: Variant) -> DeviceChoice:
        """Compute what was written for so many rows, and choose their tokens. The same tensors each time."""
        rows, new_blocks, words = self._parts(num_rows)
        inputs = self._first(num_rows)
        if num_rows not in self._plans:
            self._plans[num_rows] = self.plan.first(num_rows)
        plan = self._plans[num_rows]
        self._decoder.kernels.prepare_step(rows, new_blocks, self.table, inputs, self._cache.block_size)
        plan.refresh()
        batch = ForwardBatch(inputs.token_ids, inputs.positions, inputs.slot_mapping, None, plan)
        logits = self._decoder.forward(batch, self._cache)
        choice = self._sampler.choose(logits, words, inputs.slots, variant)
        # Rows of padding all write to slot 0, which nobody reads.
        self.table.last_token.index_copy_(0, inputs.slots.long(), choice.tokens)
        return choice

    def load_tables(self, slots: list[int], tables: list[list[int]], pin: bool) -> None:
        """Replace whole block tables: of sequences that are new here, or that grew by more than a block."""
        num_columns = max(map(len, tables))
        padded = torch.zeros(len(tables), num_columns, dtype=torch.int32, pin_memory=pin)
        for row, table in zip(padded.numpy(), tables, strict=True):
            row[: len(table)] = table
        device = self.table.block_tables.device
        index = torch.tensor(slots, dtype=torch.int64, pin_memory=pin).to(device, non_blocking=True)
        self.table.block_tables[:, :num_columns].index_copy_(0, index, padded.to(device, non_blocking=True))

    def _parts(self, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """The views of `Packed`, on the device."""
        middle, end = num_rows * ROW_WIDTH, num_rows * 2 * ROW_WIDTH
        return (
            self._packed[:middle].view(num_rows, ROW_WIDTH),
            self._packed[middle:end].view(num_rows, ROW_WIDTH),
            self._packed[end : num_rows * PACKED_WIDTH].view(num_rows, DeviceSampler.WIDTH),
        )

    def _first(self, num_rows: int) -> StepInputs:
        whole = self._inputs
        return StepInputs(
            whole.token_ids[:num_rows],
            whole.positions[:num_rows],
            whole.slot_mapping[:num_rows],
            whole.context_lens[:num_rows],
            whole.slots[:num_rows],
        )
