"""How far an op may be from its formula evaluated in float64, by dtype. Shared by tests and benchmarks."""

from collections.abc import Mapping

import torch

# Half a unit in the last place is 2^-24, 2^-11 and 2^-8 of the value; these allow for a few roundings on the way.
RELATIVE: Mapping[torch.dtype, float] = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}

DTYPES = tuple(RELATIVE)
