"""Qwen3 (Yang et al. 2025): Llama with an RMS norm on every query and key head, heads wider than hidden / heads."""

from dataclasses import replace

from penstock_models.config_reader import ConfigReader
from penstock_models.families import llama, qwen2
from penstock_models.families.family import Family
from penstock_models.spec import ModelSpec


def spec(architecture: str, config: ConfigReader) -> ModelSpec:
    """As in transformers' Qwen3Config, heads have 128 features unless said otherwise."""
    base = llama.spec(architecture, config, head_size=128)
    return replace(base, mlp_bias=False, qk_norm=True, windows=qwen2.windows(config, base.num_layers))


FAMILY = Family(spec, llama.NAMES)
