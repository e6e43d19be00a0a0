"""transformers decoding the batches of `gpu_step.py`, with random weights of the same shapes. Imports transformers.

The time of a step is the difference of two runs that differ in the number of tokens alone, so that prompts and whatever
is set up at the beginning are in neither.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from step_sides import SAMPLING, Load
from transformers import GenerationConfig, StaticCache
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from penstock_models.spec import Llama3Scaling, ModelSpec, RotaryPositions

Peer = Callable[[ModelSpec, Load, torch.dtype, torch.device], float]
# Tokens of the shorter run: what compiles, and what a cache has to grow by, is over by then.
SHORT = 4


def static_cache(spec: ModelSpec, load: Load, dtype: torch.dtype, device: torch.device) -> float:
    """`generate` with a static cache and a compiled step: seconds of a step."""
    model = random_model(spec, dtype, device)
    prompts = torch.randint(spec.vocab_size, (load.num_rows, load.context), device=device)
    cache = StaticCache(config=model.config, max_cache_len=load.context + SHORT + load.num_steps)

    def run(num_tokens: int) -> float:
        cache.reset()
        started = time.perf_counter()
        settings = GenerationConfig(max_new_tokens=num_tokens, do_sample=True, top_k=0, pad_token_id=0, **SAMPLING)
        given = model.generate(prompts, generation_config=settings, past_key_values=cache)
        _synchronize(device)
        if given.shape[1] != load.context + num_tokens:
            raise RuntimeError(f"{given.shape[1] - load.context} tokens instead of {num_tokens}")
        return time.perf_counter() - started

    for _ in range(2):  # compiles, then records graphs
        run(SHORT)
    return (run(SHORT + load.num_steps) - run(SHORT)) / load.num_steps


def continuous_batching(spec: ModelSpec, load: Load, dtype: torch.dtype, device: torch.device) -> float:
    """Its manager, with all rows at once: seconds of a step."""
    model = random_model(spec, dtype, device)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(spec.vocab_size, (load.num_rows, load.context), generator=generator).tolist()
    config = ContinuousBatchingConfig(max_requests_per_batch=load.num_rows)
    # -1 is how it is told that no token ends an answer.
    settings = GenerationConfig(do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=0, **SAMPLING)
    manager = model.init_continuous_batching(settings, config)
    manager.start()
    try:

        def run(num_tokens: int) -> float:
            started = time.perf_counter()
            for prompt in prompts:
                manager.add_request(prompt, max_new_tokens=num_tokens)
            num_open = len(prompts)
            while num_open:
                result = manager.get_result(timeout=60.0)
                if result is None or result.error is not None:
                    raise RuntimeError("no answer for a minute" if result is None else str(result.error))
                num_open -= bool(result.is_finished())
            return time.perf_counter() - started

        run(SHORT)
        return (run(SHORT + load.num_steps) - run(SHORT)) / load.num_steps
    finally:
        manager.stop(block=True)
        manager.destroy()


PEERS: Mapping[str, Peer] = {"static cache, compiled": static_cache, "continuous batching": continuous_batching}


def random_model(spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> Any:
    """transformers' model of a spec, with the random weights that its class gives it."""
    assert isinstance(spec.positions, RotaryPositions), "only rotary models are compared"
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": spec.positions.theta}
    if isinstance(scaling := spec.positions.scaling, Llama3Scaling):
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
    kind = transformers.Qwen3Config if spec.qk_norm else transformers.LlamaConfig
    config = kind(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_size,
        intermediate_size=spec.mlp_size,
        max_position_embeddings=spec.max_positions,
        rms_norm_eps=spec.norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=spec.tied_head,
        eos_token_id=None,
        bos_token_id=None,
    )
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
