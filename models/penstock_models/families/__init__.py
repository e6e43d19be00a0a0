"""The model families, by the name that config.json gives under `architectures`. Torch-free."""

from collections.abc import Mapping

from penstock_models.families import gpt2, llama, mistral, qwen2, qwen3
from penstock_models.families.family import Family

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": llama.FAMILY,
    "MistralForCausalLM": mistral.FAMILY,
    "Qwen2ForCausalLM": qwen2.FAMILY,
    "Qwen3ForCausalLM": qwen3.FAMILY,
    "GPT2LMHeadModel": gpt2.FAMILY,
}
