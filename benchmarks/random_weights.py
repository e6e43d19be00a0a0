"""A decoder with random weights drawn on its own device: eight billion of them in a second on a GPU, minutes on a host.

They are the same for every table of kernels, so that tokens can be compared.
"""

import torch
from torch import Tensor

from penstock_kernels import Kernels
from penstock_models.decoder import Decoder
from penstock_models.parameters import Parameter
from penstock_models.spec import ModelSpec
from penstock_models.weights import build_weights


def random_decoder(spec: ModelSpec, dtype: torch.dtype, device: torch.device, kernels: Kernels) -> Decoder:
    """Matrices normal with deviation 0.02, norms 1, biases 0."""
    generator = torch.Generator(device).manual_seed(0)

    def fill(parameter: Parameter, out: Tensor) -> None:
        if parameter.columns is not None:
            out.normal_(0.0, 0.02, generator=generator)
        else:
            out.fill_(1.0 if parameter.kind == "weight" else 0.0)

    with torch.inference_mode():
        weights = build_weights(spec, fill, dtype=dtype, device=device, kernels=kernels)
    return Decoder(spec, weights, kernels)
