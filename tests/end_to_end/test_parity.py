"""Checkpoints that transformers saved, served over HTTP, against transformers' own `generate`."""

from pathlib import Path

import pytest
import torch
from checkpoints import FAMILY_NAMES, write_checkpoint, write_tokenizer
from openai import OpenAI
from real_server import serving

PROMPTS = ("Once upon a time", "The quick brown fox jumps over the lazy dog, and then", "€")


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_greedy_answers_equal_transformers(family: str, tmp_path: Path) -> None:
    """64 greedy tokens of several prompts at once, float32, by token id and as text, streamed and not."""
    oracle = write_checkpoint(tmp_path, family)
    tokenizer = write_tokenizer(tmp_path)
    expected = {}
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        output = oracle.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False)
        expected[prompt] = tokenizer.decode(output[0, len(ids) :].tolist())
    with serving(str(tmp_path), "--dtype", "float32", "--served-model-name", "tiny") as served:
        client = OpenAI(base_url=f"{served.url}/v1", api_key="none")
        reply = client.completions.create(model="tiny", prompt=list(PROMPTS), max_tokens=64, temperature=0)
        assert {prompt: reply.choices[i].text for i, prompt in enumerate(PROMPTS)} == expected
        for prompt in PROMPTS:
            stream = client.completions.create(
                model="tiny", prompt=tokenizer.encode(prompt).ids, max_tokens=64, temperature=0, stream=True
            )
            assert "".join(chunk.choices[0].text for chunk in stream) == expected[prompt]
