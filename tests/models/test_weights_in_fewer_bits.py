"""A model with weights in fewer bits is the model of the rounded weights, and takes less memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from kernel_tables import DEVICE, table
from paged_rows import PagedRows
from torch import Tensor

from penstock_kernels import Kernels
from penstock_kernels.linear import PackedLinear
from penstock_kernels.linear.quantised import QuantisedType, dequantise, quantise
from penstock_models.decoder import Decoder
from penstock_models.loader import load_checkpoint


def load(folder: Path, kernels: Kernels) -> Decoder:
    return load_checkpoint(folder, dtype="float32", device=DEVICE, kernels=kernels).decoder


def logits(decoder: Decoder) -> Tensor:
    rows = PagedRows(decoder)
    return torch.cat([rows.feed({0: [5, 6, 7]})[0], rows.feed({0: [8], 1: [9, 10]})[0]])


def with_rounded_weights(type: QuantisedType) -> Kernels:
    """The reference, to which a weight is its rounded self at full length."""
    reference = Kernels.reference()

    def pack(weight: Tensor) -> PackedLinear:
        return reference.pack_linear(dequantise(quantise(weight, type), weight.dtype))

    return replace(reference, pack_linear=pack)


@pytest.mark.parametrize("name", ["reference", "fused"])
@pytest.mark.parametrize(("family", "type"), [("llama", "int8"), ("gpt2", "int4")])
def test_it_is_the_model_of_the_rounded_weights(name: str, family: str, type: QuantisedType, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    expected = logits(load(tmp_path, with_rounded_weights(type)))
    found = logits(load(tmp_path, table(name).with_weights(type)))
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    full = logits(load(tmp_path, Kernels.reference()))
    assert 1e-3 < (found - full).abs().mean() / full.std() < (0.1 if type == "int8" else 0.6)
