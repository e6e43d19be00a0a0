"""The sides of an offline comparison: `LLM`, transformers' `generate` and its continuous batching.

Each runs in a process of its own (`worker`), which `process.SideProcess` starts and speaks with.
"""
