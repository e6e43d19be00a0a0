"""What families read where a config.json is silent or says null; parity with transformers is tested elsewhere."""

from typing import Any

import pytest

from penstock_models.architecture import read_spec

SIZES = {
    "vocab_size": 32,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.mark.parametrize(
    ("architecture", "fields", "windows"),
    [
        ("LlamaForCausalLM", {"sliding_window": 8}, (None, None, None)),
        ("MistralForCausalLM", {}, (4096, 4096, 4096)),
        ("MistralForCausalLM", {"sliding_window": None}, (None, None, None)),
        ("MistralForCausalLM", {"sliding_window": 8}, (8, 8, 8)),
        ("Qwen2ForCausalLM", {"sliding_window": 8, "max_window_layers": 0}, (None, None, None)),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 8}, (None, None, None)),
        ("Qwen2ForCausalLM", {"use_sliding_window": True, "max_window_layers": 0}, (4096, 4096, 4096)),
        (
            "Qwen3ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
            (None, None, 8),
        ),
    ],
)
def test_windows(architecture: str, fields: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    _, spec = read_spec({"architectures": [architecture], **SIZES, **fields})
    assert spec.windows == windows


@pytest.mark.parametrize(
    ("architecture", "head_size"), [("LlamaForCausalLM", 12), ("Qwen2ForCausalLM", 12), ("Qwen3ForCausalLM", 128)]
)
def test_head_size(architecture: str, head_size: int) -> None:
    _, spec = read_spec({"architectures": [architecture], **SIZES})
    assert spec.head_size == head_size
    assert spec.attention_scales == (head_size**-0.5,) * 3
    assert spec.num_kv_heads == 2
