"""Fused kernels compiled ahead of time, without a GPU: what each configuration takes of a multiprocessor.

Knows the launchers' `configurations(capability)` and nothing of what the kernels compute. Beside the fused kernels
themselves this is the one place that imports Triton.
"""
