"""What the ops around the draw choose to launch for vocabularies of real models was foreseen, and so compiled."""

import pytest
import torch
from kernel_launches import foreseen, noted_launches
from kernel_tables import DEVICE, table

from penstock_kernels.penalties import PenaltyInputs, UsedTokens
from penstock_kernels.sample import SampleInputs
from penstock_kernels.step_inputs import SlotTable, StepInputs


def ints(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def floats(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device=DEVICE)


@pytest.mark.parametrize("rows", [1, 8, 33])
@pytest.mark.parametrize("vocab", [32000, 50257, 128256, 151936])
def test_the_choice_of_tokens(vocab: int, rows: int) -> None:
    kernels = table("fused")
    scores, slots, tokens = floats(rows, vocab), ints(rows), ints(rows, dtype=torch.int64)
    words = -(-vocab // 32)
    used = UsedTokens(in_prompt=ints(4, words), counts=ints(4, vocab, dtype=torch.int16))
    with noted_launches() as launches:
        for with_cuts in (False, True):
            inputs = SampleInputs(
                temperature=floats(rows),
                top_k=ints(rows),
                top_p=floats(rows),
                min_p=floats(rows),
                seed=ints(rows, dtype=torch.int64),
                sample=ints(rows),
                position=ints(rows),
                with_cuts=with_cuts,
            )
            kernels.sample(scores, inputs)
        for num_top in (0, 1, 8, 20, 32):
            kernels.token_logprobs(scores, tokens, num_top)
        for count in (2, 8, 256):
            starts = torch.tensor([0, rows], device=DEVICE)
            kernels.best_continuations(scores, floats(rows).double(), starts, count)
        kernels.penalties(scores, slots, used, PenaltyInputs(floats(rows), floats(rows), floats(rows)))
        kernels.count_tokens(used, slots, tokens)
        kernels.apply_bitmask(scores, ints(rows, words), tokens)
        inputs_of_step = StepInputs(tokens, tokens, tokens, slots, slots)
        slot_table = SlotTable(ints(rows + 1, dtype=torch.int64), ints(rows + 1, 64))
        kernels.prepare_step(ints(rows, 3), ints(2 * rows, 3), slot_table, inputs_of_step, 16)
    known = foreseen()
    unforeseen = {str(launch) for launch in launches if not any(map(launch.is_foreseen_by, known))}
    assert launches and not unforeseen, "\n".join(sorted(unforeseen))
