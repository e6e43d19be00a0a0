"""Tiny random checkpoints of every family, written by transformers, and a tokenizer to serve them with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers

EOS_ID = 0
VOCAB_SIZE = 272

# Odd sizes on purpose: 20 features a head, a hidden size that is no power of two, query heads in groups of 3.
_COMMON: Mapping[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 120,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": EOS_ID,
    "eos_token_id": EOS_ID,
    "tie_word_embeddings": False,
}
_FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("LlamaConfig", _COMMON),
    "mistral": ("MistralConfig", {**_COMMON, "head_dim": 24, "sliding_window": 13}),
    "qwen2": ("Qwen2Config", {**_COMMON, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**_COMMON, "head_dim": 24}),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCAB_SIZE,
            "n_embd": 120,
            "n_layer": 3,
            "n_head": 6,
            "n_positions": 256,
            "bos_token_id": EOS_ID,
            "eos_token_id": EOS_ID,
        },
    ),
}
FAMILY_NAMES = tuple(_FAMILIES)


def write_checkpoint(
    folder: Path, family: str, *, dtype: torch.dtype = torch.float32, max_shard_size: str = "1GB", **overrides: object
) -> Any:
    """Write a random checkpoint, always the same for the same arguments, and return the transformers model.

    Every parameter is random, biases and norms too, and large enough that greedy answers do not just repeat.

    Args:
        family: one of FAMILY_NAMES.
        max_shard_size: as in save_pretrained; small values give several files and an index.
        overrides: fields of the configuration.
    """
    config_name, defaults = _FAMILIES[family]
    config = getattr(transformers, config_name)(**{**defaults, **overrides})
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.15 * noise)
    model = model.to(dtype).eval()
    # Else transformers would warn that its own defaults for sampling are set.
    model.generation_config.do_sample = False
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return model


def write_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Write a byte-level tokenizer.json that fits every checkpoint of this module: id 0 ends, one more id per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": EOS_ID, **{char: index for index, char in enumerate(alphabet, start=1)}}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
