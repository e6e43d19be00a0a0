"""`token_logprobs` in Triton: see launch.py; for many tokens a row, wide.py."""

from penstock_kernels.token_logprobs.fused.launch import configurations, token_logprobs

__all__ = ["configurations", "token_logprobs"]
