"""A decoder with random weights, for benchmarks and tests that need a shape but no checkpoint."""

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.decoder import Decoder
from penstock_models.parameters import Parameter
from penstock_models.spec import ModelSpec
from penstock_models.weights import build_weights


def random_model(
    spec: ModelSpec, dtype: torch.dtype, seed: int, device: torch.device | None = None, kernels: Kernels | None = None
) -> Decoder:
    """A decoder whose matrices are normal with deviation 0.02, norms 1 and biases 0. The seed decides every value."""
    generator = torch.Generator().manual_seed(seed)

    def fill(parameter: Parameter, out: Tensor) -> None:
        if parameter.columns is not None:
            out.copy_(torch.randn(out.shape, generator=generator).mul_(0.02))
        else:
            out.fill_(1.0 if parameter.kind == "weight" else 0.0)

    table = kernels or Kernels.reference()
    weights = build_weights(spec, fill, dtype=dtype, device=device or torch.device("cpu"), kernels=table)
    return Decoder(spec, weights, table)
