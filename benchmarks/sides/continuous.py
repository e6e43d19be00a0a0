"""transformers' continuous batching, as its manager offers it.

It runs on a CPU with `sdpa` attention, which is transformers' default; each step masks every row's keys from all other
rows. `eager` attention gave 111 tokens/s where `sdpa` gave 142 (135M shape, 16 rows); pages of 32 tokens gave 41, those
of 256, the default, 142.
"""

import gc
import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from sides.side import Terms

# Prompt tokens that join a step at most: as many as ours has by default on a CPU.
_MAX_BATCH_TOKENS = 512
# Seconds without any answer after which it is stuck: one that never fits its cache would be waited for forever.
_PATIENCE = 900.0


class ContinuousSide:
    """One manager whose thread stays, as when it serves, so that no answer pays for starting it."""

    def load(self, folder: str, terms: Terms) -> dict[str, Any]:
        # libgomp stops spinning when more threads than processors wait, and this thread's would count: it computes
        # nothing later, so it has none. The manager's thread takes the number that is set when it starts.
        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, terms.dtype), attn_implementation="sdpa"
        ).eval()
        config = ContinuousBatchingConfig(
            max_batch_tokens=_MAX_BATCH_TOKENS,
            max_requests_per_batch=terms.max_rows,
        )
        config.num_blocks = -(-terms.cache_tokens // config.page_size)
        # -1 is how it is told that no token ends an answer.
        settings = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        self._manager = self._model.init_continuous_batching(settings, config)
        torch.set_num_threads(terms.threads)
        self._manager.start()
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "dtype": terms.dtype,
            "threads": terms.threads,
            "attention": self._model.config._attn_implementation,
            "cache_tokens": config.num_blocks * config.page_size,
            "num_parameters": sum(parameter.numel() for parameter in self._model.parameters()),
        }

    def answer(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
        ids = [
            self._manager.add_request(list(prompt), max_new_tokens=length)
            for prompt, length in zip(prompts, lengths, strict=True)
        ]
        answers: dict[str, list[int]] = {}
        last = time.monotonic()
        while len(answers) < len(ids):
            result = self._manager.get_result(timeout=1.0)
            if result is None:
                if not self._manager.is_running():
                    raise RuntimeError("the manager's thread ended before its answers")
                if time.monotonic() - last > _PATIENCE:
                    raise RuntimeError(f"no answer came for {_PATIENCE:.0f} seconds")
            elif result.error is not None:
                raise RuntimeError(f"continuous batching failed: {result.error}")
            elif result.is_finished():
                answers[result.request_id] = result.generated_tokens
                last = time.monotonic()
        return [answers[request_id] for request_id in ids]

    def unload(self) -> None:
        self._manager.stop(block=True)
        self._manager.destroy()
        del self._manager, self._model
        gc.collect()
