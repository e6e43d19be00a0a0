"""Our side: `LLM`, the engine in process."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from shapes import read_shape

from penstock_engine.config import EngineConfig
from penstock_engine.llm import LLM
from sides.side import Terms


class LLMSide:
    """`LLM.generate` over all prompts at once, with at most `max_rows` of them in a step."""

    def load(self, folder: str, terms: Terms) -> dict[str, Any]:
        dtype: Literal["bfloat16", "float32"] = "float32" if terms.dtype == "float32" else "bfloat16"
        bytes_per_token = read_shape(Path(folder)).kv_bytes_per_token * (2 if dtype == "float32" else 1)
        config = EngineConfig(
            model=folder,
            dtype=dtype,
            device="cpu",
            threads=terms.threads,
            max_rows=terms.max_rows,
            max_model_len=terms.max_length,
            kv_cache_memory=terms.cache_tokens * bytes_per_token,
        )
        self._llm = LLM(config)
        info = self._llm.info
        return {
            "torch": torch.__version__,
            "dtype": info.dtype,
            "threads": torch.get_num_threads(),
            "kernels": info.kernels,
            "cache_tokens": info.num_cache_tokens,
            "num_parameters": info.num_parameters,
        }

    def answer(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
        results = self._llm.generate(prompts, {"temperature": 0}, max_tokens=lengths, ignore_eos=True, progress=False)
        return [result.answers[0].token_ids for result in results]

    def unload(self) -> None:
        del self._llm
        gc.collect()
