"""The head in torch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def logits(x: Tensor, weight: Tensor) -> Tensor:
    """See `Logits`."""
    if x.dtype == torch.float32 or x.device.type != "cpu":
        return F.linear(x, weight).float()
    if x.shape[0] == 1:
        return torch.mv(weight, x[0]).float().unsqueeze(0)
    # W x^T instead of x W^T: the matrix unit needs only its right operand reordered, which is then the small one.
    # 49152 x 576, 16 rows, bf16: 1.6 ms with the transposing copy, against 2.5 ms for `F.linear`.
    transposed = torch.mm(weight, x.t())
    return torch.empty((x.shape[0], weight.shape[0]), dtype=torch.float32).copy_(transposed.t())
