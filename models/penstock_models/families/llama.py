"""Llama (Touvron et al. 2023), and every checkpoint that calls itself one: RMS norm, rotary positions, gated SiLU."""

from collections.abc import Mapping

from penstock_models.config_reader import ConfigReader
from penstock_models.families.family import Family
from penstock_models.parameters import Module
from penstock_models.spec import ModelSpec

NAMES: Mapping[Module, tuple[str, ...]] = {
    "embedding": ("model.embed_tokens",),
    "attention_norm": ("model.layers.{layer}.input_layernorm",),
    "qkv": tuple(f"model.layers.{{layer}}.self_attn.{part}_proj" for part in "qkv"),
    "q_norm": ("model.layers.{layer}.self_attn.q_norm",),
    "k_norm": ("model.layers.{layer}.self_attn.k_norm",),
    "attention_out": ("model.layers.{layer}.self_attn.o_proj",),
    "mlp_norm": ("model.layers.{layer}.post_attention_layernorm",),
    "mlp_in": ("model.layers.{layer}.mlp.gate_proj", "model.layers.{layer}.mlp.up_proj"),
    "mlp_out": ("model.layers.{layer}.mlp.down_proj",),
    "final_norm": ("model.norm",),
    "head": ("lm_head",),
}


def spec(architecture: str, config: ConfigReader, head_size: int | None = None) -> ModelSpec:
    """Defaults are those of transformers' LlamaConfig; `head_size` is that of heads whose width it would not state."""
    num_layers, num_heads = config.integer("num_hidden_layers"), config.integer("num_attention_heads")
    hidden_size = config.integer("hidden_size")
    head_size = config.integer("head_dim", head_size or hidden_size // num_heads)
    max_positions = config.integer("max_position_embeddings", 2048)
    attention_bias, mlp_bias = config.boolean("attention_bias", False), config.boolean("mlp_bias", False)
    return ModelSpec(
        architecture=architecture,
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=config.integer("num_key_value_heads", num_heads),
        head_size=head_size,
        mlp_size=config.integer("intermediate_size"),
        max_positions=max_positions,
        positions=config.rope(head_size, max_positions),
        norm="rms",
        norm_eps=config.number("rms_norm_eps", 1e-6),
        activation=config.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=attention_bias,
        attention_out_bias=attention_bias,
        mlp_bias=mlp_bias,
        qk_norm=False,
        tied_head=config.boolean("tie_word_embeddings", False),
        windows=(None,) * num_layers,
        attention_scales=(head_size**-0.5,) * num_layers,
    )


FAMILY = Family(spec, NAMES)
