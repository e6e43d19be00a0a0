"""Scores as a model gives them, for the ops that choose tokens: a few tokens stand out, the rest is noise."""

import torch
from kernels.inputs import normal
from torch import Tensor

NUM_FITTING = 64


def scores(num_rows: int, vocab_size: int, device: torch.device, seed: int = 0) -> Tensor:
    """[rows, vocab] float32."""
    values = normal(num_rows, vocab_size, dtype=torch.float32, device=device, seed=seed).mul_(2)
    generator = torch.Generator().manual_seed(seed)
    num_fitting = min(NUM_FITTING, vocab_size)
    fitting = torch.randint(vocab_size, (num_rows, num_fitting), generator=generator).to(device)
    bonus = torch.linspace(10, 2, num_fitting, device=device).expand(num_rows, -1)
    return values.scatter_add_(-1, fitting, bonus)
