"""Checkpoints of well-known shapes with random weights: as fast or slow as the real ones, and nothing to download.

A folder written here has what a server needs: weights, configuration, and a byte-level tokenizer as large as the
model's vocabulary, so that every generated id turns into text.
"""

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

_END = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes of a Llama: gated SiLU MLP, RMS norm, rotary positions, tied head, bf16."""

    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    intermediate: int
    vocab_size: int
    max_positions: int = 2048

    @property
    def num_parameters(self) -> int:
        attention = 2 * self.hidden * self.head_size * (self.num_heads + self.num_kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.num_layers * layer + self.vocab_size * self.hidden + self.hidden

    @property
    def weight_bytes(self) -> int:
        return 2 * self.num_parameters

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * 2 * self.num_layers * self.num_kv_heads * self.head_size


SHAPES = {
    "llama-135m": LlamaShape(30, 576, 9, 3, 64, 1536, 49152),
    "llama-360m": LlamaShape(32, 960, 15, 5, 64, 2560, 49152),
    # So small that a benchmark runs in seconds: for trying it out and for its tests. Its speed says nothing.
    "tiny": LlamaShape(2, 64, 4, 2, 16, 128, 512),
}


def read_shape(folder: Path) -> LlamaShape:
    """The shape of a bf16 Llama checkpoint with a tied head, from its config.json.

    Raises:
        ValueError: the checkpoint is another kind of model, of which these sizes would be wrong.
    """
    config = json.loads((folder / "config.json").read_text())
    dtype = config.get("dtype", config.get("torch_dtype"))
    if config["model_type"] != "llama" or not config["tie_word_embeddings"] or dtype != "bfloat16":
        raise ValueError(f"{folder} holds no Llama in bfloat16 with a tied head")
    return LlamaShape(
        num_layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        intermediate=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
    )


def write_checkpoint(shape: LlamaShape, folder: Path, seed: int = 0) -> None:
    """Write a checkpoint of this shape; the same seed gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_weights(shape, seed), folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": shape.num_layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_size,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "bfloat16",
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 0})
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": _END, "eos_token": _END},
    )
    _tokenizer(shape.vocab_size).save(str(folder / "tokenizer.json"))


def _weights(shape: LlamaShape, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        # The spread keeps the size of activations through the layers, so that logits differ and greedy text moves.
        return torch.randn(rows, columns, generator=generator).mul_(float(columns) ** -0.5).bfloat16()

    queries, keys = shape.num_heads * shape.head_size, shape.num_kv_heads * shape.head_size
    weights = {
        "model.embed_tokens.weight": matrix(shape.vocab_size, shape.hidden),
        "model.norm.weight": torch.ones(shape.hidden, dtype=torch.bfloat16),
    }
    for i in range(shape.num_layers):
        layer = f"model.layers.{i}"
        weights |= {
            f"{layer}.input_layernorm.weight": torch.ones(shape.hidden, dtype=torch.bfloat16),
            f"{layer}.self_attn.q_proj.weight": matrix(queries, shape.hidden),
            f"{layer}.self_attn.k_proj.weight": matrix(keys, shape.hidden),
            f"{layer}.self_attn.v_proj.weight": matrix(keys, shape.hidden),
            f"{layer}.self_attn.o_proj.weight": matrix(shape.hidden, queries),
            f"{layer}.post_attention_layernorm.weight": torch.ones(shape.hidden, dtype=torch.bfloat16),
            f"{layer}.mlp.gate_proj.weight": matrix(shape.intermediate, shape.hidden),
            f"{layer}.mlp.up_proj.weight": matrix(shape.intermediate, shape.hidden),
            f"{layer}.mlp.down_proj.weight": matrix(shape.hidden, shape.intermediate),
        }
    return weights


def _tokenizer(vocab_size: int) -> Tokenizer:
    """Id 0 ends a text, then come the 256 bytes, then invented words with a space before them."""
    space = "Ġ"  # how the byte-level alphabet writes a space
    letters = (itertools.product(ascii_lowercase, repeat=length) for length in itertools.count(2))
    words = (space + "".join(word) for word in itertools.chain.from_iterable(letters))
    tokens = itertools.chain([_END], sorted(pre_tokenizers.ByteLevel.alphabet()), words)
    vocabulary = {token: i for i, token in enumerate(itertools.islice(tokens, vocab_size))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_END])
    return tokenizer


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint of a well-known shape with random weights.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_checkpoint(SHAPES[arguments.shape], arguments.folder, arguments.seed)


if __name__ == "__main__":
    main()
