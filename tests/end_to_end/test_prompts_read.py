"""What the demo model says of prompts over HTTP, in every way that it is asked, against transformers."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from real_server import serving
from transformers import AutoModelForCausalLM

from penstock_server.named_model import DEMO_MODEL
from penstock_server.text.tokenizer import Tokenizer

STORY = "Once upon a time there was a mill by the river, and the water turned its wheel all day. "
# One is longer than a step, two begin alike, one is there twice: pieces, cached starts and neighbours all have a part.
TEXTS = [
    STORY * 6,
    STORY,
    STORY + "Then it stood still.",
    "The sea 🌊 naïve",
    "x",
    *(f"{i} geese" for i in range(8)),
    STORY,
]
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    flags = ("--dtype", "float32", "--max-batch-tokens", "64")
    with serving("demo", *flags) as served, httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(DEMO_MODEL)


@cache
def logs_of(ids: tuple[int, ...]) -> NDArray[np.float64]:
    """[tokens - 1, vocab] log-probabilities of the second token and those behind it, as transformers has them."""
    with torch.no_grad():
        logits = _oracle()(torch.tensor([ids])).logits[0, :-1].double()
    return np.asarray(torch.log_softmax(logits, dim=-1).numpy())


@cache
def _oracle() -> Any:
    return AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.float32)


def own_logs(ids: tuple[int, ...]) -> list[float]:
    return [float(row[token]) for row, token in zip(logs_of(ids), ids[1:], strict=True)]


def asked(client: httpx.Client, route: str, **fields: object) -> Any:
    response = client.post(f"/v1/{route}", json={"model": "demo", **fields})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_prompts_in_both_layouts(client: httpx.Client, tokenizer: Tokenizer, max_tokens: int) -> None:
    got = asked(
        client,
        "completions",
        prompt=TEXTS,
        echo=True,
        logprobs=1,
        prompt_logprobs=3,
        max_tokens=max_tokens,
        temperature=0,
    )
    assert got["usage"]["completion_tokens"] == max_tokens * len(TEXTS)
    for text, choice in zip(TEXTS, got["choices"], strict=True):
        ids = tuple(tokenizer.encode(text))
        told, logs = choice["logprobs"], logs_of(ids)
        assert choice["text"].startswith(text) and len(told["tokens"]) == len(ids) + max_tokens
        assert told["token_logprobs"][1 : len(ids)] == pytest.approx(own_logs(ids), abs=TOLERANCE)
        places = [*told["text_offset"], len(choice["text"])]
        assert choice["text"][places[0] : places[len(ids)]] == text
        best = logs.max(axis=-1)
        for row, highest, top, at_place, token in zip(
            logs, best, told["top_logprobs"][1:], choice["prompt_logprobs"][1:], ids[1:], strict=False
        ):
            assert max(top.values()) == pytest.approx(highest, abs=TOLERANCE)
            own = at_place[str(token)]
            assert own["logprob"] == pytest.approx(row[token], abs=TOLERANCE)
            # Among near ties either order is right.
            assert (row > row[token] + TOLERANCE).sum() < own["rank"] <= (row > row[token] - TOLERANCE).sum() + 1
            likeliest = sorted((entry["logprob"] for entry in at_place.values()), reverse=True)[:3]
            assert likeliest == pytest.approx(np.sort(row)[:-4:-1].tolist(), abs=TOLERANCE)


def test_a_greedy_answer_is_the_likeliest_reading_of_itself(client: httpx.Client) -> None:
    """lm-eval takes a token to be greedy if its log-probability is equal to the largest that is told of its place."""
    plain = asked(client, "completions", prompt=STORY, max_tokens=12, temperature=0, logprobs=1, return_token_ids=True)
    (answer,) = plain["choices"]
    ids = answer["prompt_token_ids"] + answer["token_ids"]
    read = asked(client, "completions", prompt=ids, max_tokens=1, echo=True, logprobs=1, temperature=0, seed=1234)
    told, count = read["choices"][0]["logprobs"], len(answer["prompt_token_ids"])
    assert told["tokens"][count:-1] == answer["logprobs"]["tokens"]
    assert told["token_logprobs"][count:-1] == pytest.approx(answer["logprobs"]["token_logprobs"], abs=TOLERANCE)
    for chosen, top in zip(told["token_logprobs"][count:-1], told["top_logprobs"][count:-1], strict=True):
        assert chosen == max(top.values())


def test_a_chats_prompt(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "What is 3 plus 4?"}]
    got = asked(client, "chat/completions", messages=messages, max_tokens=2, prompt_logprobs=0, return_token_ids=True)
    ids = got["prompt_token_ids"]
    told = [
        at_place[str(token)]["logprob"] for at_place, token in zip(got["prompt_logprobs"][1:], ids[1:], strict=True)
    ]
    assert told == pytest.approx(own_logs(tuple(ids)), abs=TOLERANCE)


def test_scores(client: httpx.Client, tokenizer: Tokenizer) -> None:
    """The demo's tokenizer begins each text with a token, so that all of the text counts."""
    got = asked(client, "score", input=TEXTS, logprobs=2)
    for text, one in zip(TEXTS, got["data"], strict=True):
        ids = tuple(tokenizer.encode(text))
        logs = own_logs(ids)
        assert one["num_tokens"] == len(logs) and one["num_bytes"] == len(text.encode())
        assert one["logprobs"]["token_logprobs"] == pytest.approx(logs, abs=TOLERANCE)
        assert one["log_likelihood"] == pytest.approx(sum(logs), abs=TOLERANCE * len(logs))
        assert one["perplexity"] == pytest.approx(math.exp(-sum(logs) / len(logs)), rel=2 * TOLERANCE)
    assert got["usage"]["prompt_tokens"] == sum(len(tokenizer.encode(text)) for text in TEXTS)


def test_labels(client: httpx.Client, tokenizer: Tokenizer) -> None:
    text, labels = "Once upon a", [" time", " xylophone", " the time"]
    (one,) = asked(client, "score", input=text, labels=labels)["data"]
    start = len(tokenizer.encode(text))
    sums = [sum(own_logs(tuple(tokenizer.encode(text + label)))[start - 1 :]) for label in labels]
    assert [entry["log_likelihood"] for entry in one["labels"]] == pytest.approx(sums, abs=TOLERANCE)
    odds = np.exp(np.array(sums) - max(sums))
    assert [entry["probability"] for entry in one["labels"]] == pytest.approx(
        (odds / odds.sum()).tolist(), abs=TOLERANCE
    )
    assert one["label"] == " time" == labels[int(np.argmax(sums))]
    assert [entry["is_greedy"] for entry in one["labels"]][1:] == [False, False]
