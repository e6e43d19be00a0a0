"""GPT-2 (Radford et al. 2019): layer norm, learned positions, a plain MLP, a tied head, weights [inputs, outputs]."""

import re
from collections.abc import Mapping

from penstock_models.config_reader import ConfigReader
from penstock_models.errors import UnsupportedModel
from penstock_models.families.family import Family
from penstock_models.parameters import Module
from penstock_models.spec import LearnedPositions, ModelSpec

NAMES: Mapping[Module, tuple[str, ...]] = {
    "embedding": ("transformer.wte",),
    "positions": ("transformer.wpe",),
    "attention_norm": ("transformer.h.{layer}.ln_1",),
    "qkv": ("transformer.h.{layer}.attn.c_attn",),
    "attention_out": ("transformer.h.{layer}.attn.c_proj",),
    "mlp_norm": ("transformer.h.{layer}.ln_2",),
    "mlp_in": ("transformer.h.{layer}.mlp.c_fc",),
    "mlp_out": ("transformer.h.{layer}.mlp.c_proj",),
    "final_norm": ("transformer.ln_f",),
    "head": ("lm_head",),
}


def spec(architecture: str, config: ConfigReader) -> ModelSpec:
    """Defaults are those of transformers' GPT2Config."""
    if config.boolean("add_cross_attention", False):
        raise UnsupportedModel(f"config.json: {architecture} with add_cross_attention is not supported")
    hidden_size, num_heads, num_layers = config.integer("n_embd"), config.integer("n_head"), config.integer("n_layer")
    head_size = hidden_size // num_heads
    scale = head_size**-0.5 if config.boolean("scale_attn_weights", True) else 1.0
    by_layer = config.boolean("scale_attn_by_inverse_layer_idx", False)
    return ModelSpec(
        architecture=architecture,
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_size=head_size,
        mlp_size=config.integer("n_inner", 4 * hidden_size),
        max_positions=config.integer("n_positions", 1024),
        positions=LearnedPositions(),
        norm="layer",
        norm_eps=config.number("layer_norm_epsilon", 1e-5),
        activation=config.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        qkv_bias=True,
        attention_out_bias=True,
        mlp_bias=True,
        qk_norm=False,
        tied_head=config.boolean("tie_word_embeddings", True),
        windows=(None,) * num_layers,
        attention_scales=tuple(scale / (layer + 1) if by_layer else scale for layer in range(num_layers)),
    )


FAMILY = Family(
    spec,
    NAMES,
    optional_prefix="transformer.",
    transposed=True,
    ignored=re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"),
)
