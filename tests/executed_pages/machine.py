"""Whether this machine computes the same bits as the one on which the pages were written."""

import torch

from penstock_models.dtype import cpu_has_fast_bfloat16


def computes_as_written() -> bool:
    """True on CPUs that multiply bfloat16 in AMX tiles: there the demo model runs in bfloat16, with kernels whose sums
    do not depend on the batch. Elsewhere it runs in float32, or its sums are made in another order."""
    return cpu_has_fast_bfloat16() and bool(torch.cpu._is_amx_tile_supported()) and not torch.cuda.is_available()
