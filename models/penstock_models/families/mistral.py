"""Mistral 7B (Jiang et al. 2023) and its descendants: Llama with a sliding window."""

from dataclasses import replace

from penstock_models.config_reader import ConfigReader
from penstock_models.errors import UnsupportedModel
from penstock_models.families import llama
from penstock_models.families.family import Family
from penstock_models.spec import ModelSpec


def spec(architecture: str, config: ConfigReader) -> ModelSpec:
    """As in transformers' MistralConfig, a `sliding_window` of null means none, and none stated means 4096.

    Raises:
        UnsupportedModel: `layer_types`, which transformers' Mistral does not honour either.
    """
    if config.texts("layer_types") is not None:
        raise UnsupportedModel(f"config.json: {architecture} with layer_types is not supported")
    base = llama.spec(architecture, config)
    window = config.window("sliding_window", 4096)
    return replace(
        base,
        qkv_bias=False,
        attention_out_bias=False,
        mlp_bias=False,
        windows=(window,) * base.num_layers,
    )


FAMILY = Family(spec, llama.NAMES)
