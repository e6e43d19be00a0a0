"""Which type weights take."""

import pytest
import torch

from penstock_models.dtype import choose_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


@pytest.mark.parametrize(
    ("stored", "device", "fast", "expected", "reason"),
    [
        (BF16, CPU, True, BF16, "the checkpoint's"),
        (BF16, CPU, False, F32, "this CPU is slow"),
        (BF16, CUDA, False, BF16, "the checkpoint's"),
        (F16, CPU, True, F32, "float16"),
        (F16, CUDA, False, F16, "the checkpoint's"),
        (F32, CPU, True, F32, "the checkpoint's"),
        (F64, CPU, True, F32, "float64"),
    ],
)
def test_auto(stored: torch.dtype, device: torch.device, fast: bool, expected: torch.dtype, reason: str) -> None:
    choice = choose_dtype("auto", stored, device, fast_bfloat16=fast)
    assert choice.dtype == expected
    assert choice.name == str(expected).removeprefix("torch.")
    assert reason in choice.reason


def test_a_type_asked_for_is_given() -> None:
    assert choose_dtype("bfloat16", F32, CPU, fast_bfloat16=False).dtype == BF16
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        choose_dtype("int8", F32, CPU, fast_bfloat16=True)  # type: ignore[arg-type]
