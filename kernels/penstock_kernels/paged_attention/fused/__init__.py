"""Paged attention in Triton. Read `attend.py` first, then `list_work.py`; `launch.py` calls both."""

from penstock_kernels.paged_attention.fused.configurations import configurations
from penstock_kernels.paged_attention.fused.launch import paged_attention, plan_attention, plan_decoding

__all__ = ["configurations", "paged_attention", "plan_attention", "plan_decoding"]
