"""Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on query, key and value, windows in the later layers."""

from dataclasses import replace

from penstock_models.config_reader import ConfigReader
from penstock_models.errors import UnsupportedModel
from penstock_models.families import llama
from penstock_models.families.family import Family
from penstock_models.spec import ModelSpec

_LAYER_TYPES = ("full_attention", "sliding_attention")


def spec(architecture: str, config: ConfigReader) -> ModelSpec:
    """`use_sliding_window` is false unless said otherwise, and `sliding_window` is then without effect."""
    base = llama.spec(architecture, config)
    return replace(
        base,
        qkv_bias=True,
        attention_out_bias=False,
        mlp_bias=False,
        windows=windows(config, base.num_layers),
    )


def windows(config: ConfigReader, num_layers: int) -> tuple[int | None, ...]:
    """Each layer's window: by `layer_types` where given, else the layers from `max_window_layers` on slide.

    Raises:
        UnsupportedModel: a layer type that is not known here.
    """
    if not config.boolean("use_sliding_window", False):
        return (None,) * num_layers
    window = config.window("sliding_window", 4096)
    first = config.count("max_window_layers", 28)
    kinds = config.texts("layer_types") or [_LAYER_TYPES[layer >= first] for layer in range(num_layers)]
    for kind in kinds:
        if kind not in _LAYER_TYPES:
            raise UnsupportedModel.unknown("layer type", kind, _LAYER_TYPES)
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


FAMILY = Family(spec, llama.NAMES)
