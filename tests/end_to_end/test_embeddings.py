"""The demo model's embeddings over HTTP against transformers' hidden states."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from openai import OpenAI
from real_server import serving
from transformers import AutoModelForCausalLM

from penstock_server.named_model import DEMO_MODEL
from penstock_server.text.tokenizer import Tokenizer

STORY = "Once upon a time there was a mill by the river, and the water turned its wheel all day. "
# One is longer than a step, two begin alike, one is there twice: pieces, cached starts and neighbours all have a part.
TEXTS = [STORY * 6, STORY, STORY + "Then it stood still.", "The sea 🌊", "x", *(f"{i} geese" for i in range(20)), STORY]


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    with serving("demo", "--dtype", "float32", "--max-batch-tokens", "64") as served:
        yield OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=120, max_retries=0)


@pytest.fixture(scope="module")
def states() -> list[NDArray[np.float32]]:
    """What transformers gives for each text: [tokens, hidden size] behind the last norm."""
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.float32)
    tokenizer = Tokenizer.load(DEMO_MODEL)
    with torch.no_grad():
        return [
            model.model(torch.tensor([tokenizer.encode(text)])).last_hidden_state[0].numpy().astype(np.float32)
            for text in TEXTS
        ]


def embedded(client: OpenAI, texts: list[str], pooling: str, *, normalize: bool) -> NDArray[np.float32]:
    told = client.embeddings.create(model="demo", input=texts, extra_body={"pooling": pooling, "normalize": normalize})
    return np.array([one.embedding for one in told.data], np.float32)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_they_are_those_of_transformers(client: OpenAI, states: list[NDArray[np.float32]], pooling: str) -> None:
    expected = np.stack([own.mean(axis=0) if pooling == "mean" else own[-1] for own in states])
    raw = embedded(client, TEXTS, pooling, normalize=False)
    np.testing.assert_allclose(raw, expected, atol=1e-3)
    unit = embedded(client, TEXTS, pooling, normalize=True)
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(embedded(client, TEXTS[:1], pooling, normalize=False), expected[:1], atol=1e-3)


def test_answers_and_embeddings_share_the_cache_and_the_batch(
    client: OpenAI, states: list[NDArray[np.float32]]
) -> None:
    """An answer to the same text leaves blocks whose hidden states nobody has kept: they are computed once more."""
    prompt = STORY + "Then it stood still. "
    before = client.completions.create(model="demo", prompt=prompt, max_tokens=12, temperature=0)
    stream = client.completions.create(model="demo", prompt=prompt, max_tokens=200, temperature=0, stream=True)
    told = next(iter(stream)).choices[0].text
    got = embedded(client, TEXTS, "mean", normalize=False)
    np.testing.assert_allclose(got, np.stack([own.mean(axis=0) for own in states]), atol=1e-3)
    told += "".join(chunk.choices[0].text for chunk in stream)
    assert told.startswith(before.choices[0].text)
