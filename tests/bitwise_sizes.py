"""Sizes of the bitwise tests: real ones in bf16 on a GPU, and under the interpreter so small that it takes seconds."""

from dataclasses import dataclass, replace

import torch
from kernel_tables import DEVICE, IS_INTERPRETED

from penstock_models.spec import ModelSpec, RotaryPositions


@dataclass(frozen=True, slots=True)
class Sizes:
    """batches: with how many rows a row shares a call. linears: (outputs, inputs). heads: (query heads, key heads, head
    size). contexts: keys of a decoding row, least and most. prompt: tokens of a prompt; cuts: where it is cut into
    chunks. model: a whole decoder.
    """

    dtype: torch.dtype
    batches: tuple[int, ...]
    linears: tuple[tuple[int, int], ...]
    vocab: int
    heads: tuple[tuple[int, int, int], ...]
    contexts: tuple[int, int]
    prompt: int
    cuts: tuple[int, ...]
    model: ModelSpec


def _llama(layers: int, hidden: int, heads: tuple[int, int, int], mlp: int, vocab: int) -> ModelSpec:
    num_heads, num_kv_heads, head_size = heads
    return ModelSpec(
        architecture="LlamaForCausalLM",
        vocab_size=vocab,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        mlp_size=mlp,
        max_positions=4096,
        positions=RotaryPositions(500_000.0, head_size),
        norm="rms",
        norm_eps=1e-5,
        activation="silu",
        gated_mlp=True,
        qkv_bias=False,
        attention_out_bias=False,
        mlp_bias=False,
        qk_norm=False,
        tied_head=True,
        windows=(None,) * layers,
        attention_scales=(head_size**-0.5,) * layers,
    )


# The layers of Llama-3.2-1B, and the heads of Qwen3-0.6B and Llama-3.1-8B.
REAL = Sizes(
    dtype=torch.bfloat16,
    batches=(2, 8, 33, 256, 257),
    linears=((3072, 2048), (2048, 8192), (1000, 1032)),
    vocab=128256,
    heads=((32, 8, 64), (16, 8, 128), (32, 8, 128)),
    contexts=(700, 2600),
    prompt=2100,
    cuts=(1, 2, 513, 1024, 1100, 2099),
    model=_llama(4, 2048, (32, 8, 64), 8192, 32000),
)
SMALL = Sizes(
    dtype=torch.float32,
    batches=(2, 7),
    linears=((40, 72),),
    vocab=97,
    heads=((6, 2, 32),),
    contexts=(20, 60),
    prompt=50,
    cuts=(1, 33, 49),
    model=_llama(2, 32, (4, 2, 16), 40, 61),
)
SIZES = SMALL if IS_INTERPRETED else REAL
# Of most ops both tables have the same form: one of them is enough where each call takes a second.
TABLES = ("fused_invariant",) if IS_INTERPRETED else ("fused", "fused_invariant")


def windowed(spec: ModelSpec, window: int) -> ModelSpec:
    """The same decoder, every other layer with a window."""
    return replace(spec, windows=tuple(window if layer % 2 else None for layer in range(spec.num_layers)))


def values(*shape: int, seed: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Normal values on the device, the same for the same arguments."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=DEVICE, dtype=dtype or SIZES.dtype)
