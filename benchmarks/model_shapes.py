"""Well-known models as `ModelSpec`s, for benchmarks that fill them with random weights. Needs nothing but the specs."""

from collections.abc import Mapping

from penstock_models.spec import Llama3Scaling, ModelSpec, RotaryPositions


def _llama(
    *,
    vocab_size: int,
    hidden_size: int,
    num_layers: int,
    heads: tuple[int, int, int],
    mlp_size: int,
    positions: RotaryPositions,
    tied_head: bool,
    qk_norm: bool = False,
    max_positions: int = 131_072,
) -> ModelSpec:
    """What the Llama family has in common. heads: (query heads, key heads, head size)."""
    num_heads, num_kv_heads, head_size = heads
    return ModelSpec(
        architecture="Qwen3ForCausalLM" if qk_norm else "LlamaForCausalLM",
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        mlp_size=mlp_size,
        max_positions=max_positions,
        positions=positions,
        norm="rms",
        norm_eps=1e-6 if qk_norm else 1e-5,
        activation="silu",
        gated_mlp=True,
        qkv_bias=False,
        attention_out_bias=False,
        mlp_bias=False,
        qk_norm=qk_norm,
        tied_head=tied_head,
        windows=(None,) * num_layers,
        attention_scales=(head_size**-0.5,) * num_layers,
    )


LLAMA_1B = _llama(
    vocab_size=128_256,
    hidden_size=2048,
    num_layers=16,
    heads=(32, 8, 64),
    mlp_size=8192,
    positions=RotaryPositions(500_000.0, 64, Llama3Scaling(32.0, 1.0, 4.0, 8192)),
    tied_head=True,
)
QWEN3_06B = _llama(
    vocab_size=151_936,
    hidden_size=1024,
    num_layers=28,
    heads=(16, 8, 128),
    mlp_size=3072,
    positions=RotaryPositions(1_000_000.0, 128),
    tied_head=True,
    qk_norm=True,
    max_positions=40_960,
)
LLAMA_8B = _llama(
    vocab_size=128_256,
    hidden_size=4096,
    num_layers=32,
    heads=(32, 8, 128),
    mlp_size=14_336,
    positions=RotaryPositions(500_000.0, 128, Llama3Scaling(8.0, 1.0, 4.0, 8192)),
    tied_head=False,
)
# So small that a benchmark runs in seconds, for its tests. Its speed says nothing.
TINY = _llama(
    vocab_size=160,
    hidden_size=64,
    num_layers=2,
    heads=(4, 2, 16),
    mlp_size=96,
    positions=RotaryPositions(10_000.0, 16),
    tied_head=True,
    max_positions=512,
)

MODELS: Mapping[str, ModelSpec] = {
    "Llama-3.2-1B": LLAMA_1B,
    "Qwen3-0.6B": QWEN3_06B,
    "Llama-3.1-8B": LLAMA_8B,
}


def weight_bytes_per_step(spec: ModelSpec, num_rows: int, bytes_per_weight: int = 2) -> int:
    """Bytes of weights that a decoding step reads: all but the embedding, of which it reads `num_rows` rows."""
    attention = spec.hidden_size * (2 * spec.query_size + 2 * spec.key_size)
    norms = 2 * spec.hidden_size + (2 * spec.head_size if spec.qk_norm else 0)
    layer = attention + 3 * spec.hidden_size * spec.mlp_size + norms
    head = spec.vocab_size * spec.hidden_size
    return bytes_per_weight * (spec.num_layers * layer + head + spec.hidden_size * (1 + num_rows))


def kv_bytes_per_token(spec: ModelSpec, bytes_per_element: int = 2) -> int:
    """Bytes of the keys and values of one token in all layers."""
    return 2 * bytes_per_element * spec.num_layers * spec.key_size


def operations_per_token(spec: ModelSpec) -> int:
    """Multiplications and additions of one token's linear layers and its logits, attention apart."""
    return weight_bytes_per_step(spec, 0, bytes_per_weight=1) * 2
