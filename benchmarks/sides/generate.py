"""transformers' `generate`: in batches of a fixed size with padding, or, with batches of one, one prompt at a time."""

import gc
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig

from sides.side import Terms

_PADDING = 0


class GenerateSide:
    """Prompts in their order, `batch_size` at a time.

    A batch is padded on the left to its longest prompt and runs until its longest answer is complete; what a row
    gives beyond its own length is cut off.
    """

    def __init__(self, batch_size: int | None) -> None:
        """`batch_size`: None for the rows that the terms allow."""
        self._batch_size = batch_size

    def load(self, folder: str, terms: Terms) -> dict[str, Any]:
        torch.set_num_threads(terms.threads)
        transformers.utils.logging.disable_progress_bar()
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, terms.dtype)).eval()
        # The checkpoint's own settings, an end token among them, would come in from here.
        self._model.generation_config = _settings(1)
        self._rows = self._batch_size or terms.max_rows
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "dtype": terms.dtype,
            "threads": torch.get_num_threads(),
            "attention": self._model.config._attn_implementation,
            "batch_size": self._rows,
            "num_parameters": sum(parameter.numel() for parameter in self._model.parameters()),
        }

    def answer(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
        answers: list[list[int]] = []
        pairs = iter(zip(prompts, lengths, strict=True))
        while batch := list(islice(pairs, self._rows)):
            answers += self._batch([prompt for prompt, _ in batch], [length for _, length in batch])
        return answers

    def _batch(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int]) -> Iterator[list[int]]:
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[_PADDING] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        rows = self._model.generate(ids, attention_mask=mask, generation_config=_settings(max(lengths)))
        return (row[width:][:length] for row, length in zip(rows.tolist(), lengths, strict=True))

    def unload(self) -> None:
        del self._model
        gc.collect()


def _settings(num_tokens: int) -> GenerationConfig:
    """No end token and no minimum length: a batch gives exactly `num_tokens`, with no processor in the loop."""
    return GenerationConfig(max_new_tokens=num_tokens, do_sample=False, use_cache=True, pad_token_id=_PADDING)
