"""Hostile decoding parameters: a 400 that names the field, soon, while another stream keeps going."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from real_server import Served

pytestmark = pytest.mark.anyio

# A refusal takes milliseconds; this only tells it from work that was begun, on however busy a machine.
SOON = 10.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def chain(**step: object) -> dict[str, Any]:
    """The fields of a request with one processor."""
    return {"decoding": {"strategy": "sample", "chain": [step]}}


def strategy(name: str, **params: object) -> dict[str, Any]:
    """The fields of a request with a strategy."""
    return {"decoding": {"strategy": name, **params}}


def deep(levels: int) -> dict[str, Any]:
    """A schema that nests so far."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "huge temperature": ({"temperature": 1e300}, "temperature"),
    "negative temperature": ({"temperature": -1e-300}, "temperature"),
    "huge top_k": ({"top_k": -(10**30)}, "top_k"),
    "huge n": ({"n": 10**9}, "n"),
    "huge seed": ({"seed": 10**30}, "seed"),
    "huge width": (strategy("beam", width=10**9), "decoding.width"),
    "width of nothing": (strategy("beam", width=0), "decoding.width"),
    "more answers than width": (strategy("beam", width=2, n=3), "decoding.n"),
    "groups that do not divide": (strategy("beam", width=4, groups=3), "decoding.groups"),
    "length penalty without end": (strategy("beam", width=2, length_penalty=1e9), "decoding.length_penalty"),
    "early stopping by another name": (strategy("beam", width=2, early_stopping="soon"), "decoding.early_stopping"),
    "stochastic beam too wide": (strategy("stochastic_beam", width=10**6), "decoding.width"),
    "words without end": (strategy("constrained_beam", width=2, words=[[1] * 10_000]), "decoding.words"),
    "words of other vocabularies": (strategy("constrained_beam", width=2, words=[[10**9]]), "decoding"),
    "best of fewer": (strategy("sample", n=3, best_of=2), "decoding.best_of"),
    "a strategy by a list": ({"decoding": {"strategy": ["beam"]}}, "decoding.strategy"),
    "a parameter of another strategy": (strategy("greedy", width=3), "decoding.width"),
    "a chain of a thousand": ({"decoding": {"chain": [{"top_k": 5}] * 1000}}, "decoding.chain.1.top_k"),
    "chain and flat field": ({"top_k": 3, **chain(min_p=0.1)}, "top_k"),
    "mirostat of another version": (chain(mirostat={"version": 7}), "decoding.chain.0.mirostat.version"),
    "an n-gram below nothing": (chain(no_repeat_ngram=-3), "decoding.chain.0.no_repeat_ngram"),
    "a base that explodes": (chain(dry={"base": 1e30}), "decoding.chain.0.dry.base"),
    "a probability of seven": (chain(xtc={"probability": 7}), "decoding.chain.0.xtc.probability"),
    "no token allowed": (chain(allowed_tokens={"tokens": []}), "decoding.chain.0.allowed_tokens"),
    "no sequence allowed": (chain(allowed_sequences={"sequences": []}), "decoding.chain.0.allowed_sequences"),
    "bad words by the hundred thousand": (
        chain(bad_words={"words": [[1]] * 300_000}),
        "decoding.chain.0.bad_words.words",
    ),
    "more biases than tokens": ({"logit_bias": {str(i): 1 for i in range(200_000)}}, ""),
    "a broken regex": (chain(grammar={"regex": "(((("}), "decoding.chain.0.grammar"),
    "a schema of no type": (chain(grammar={"json_schema": {"type": "potato"}}), "decoding.chain.0.grammar"),
    "a schema that refers to nothing": (
        chain(grammar={"json_schema": {"$ref": "#/nowhere"}}),
        "decoding.chain.0.grammar",
    ),
    "a schema from elsewhere": (
        chain(grammar={"json_schema": {"$ref": "http://127.0.0.1:1/x.json"}}),
        "decoding.chain.0.grammar",
    ),
    "two grammars": (chain(grammar={"regex": "a", "choice": ["b"]}), "decoding.chain.0.grammar"),
    "a choice of none": (chain(grammar={"choice": []}), "decoding.chain.0.grammar"),
    "an endless grammar": (chain(grammar={"lark": "start: start"}), "decoding.chain.0.grammar"),
    "beams by two names": ({"num_beams": 2, "use_beam_search": True, "n": 2}, ""),
}
# A grammar may be elaborate as long as its compiler can cope: an answer or a refusal, but soon.
ELABORATE: dict[str, dict[str, Any]] = {
    "a regex of powers": chain(grammar={"regex": "((a{1,999}){1,999}){1,999}"}),
    "a regex of alternatives": chain(grammar={"regex": "(" + "|".join(["(x+x+)+y"] * 200) + "){500}"}),
    "a regex that backtracks elsewhere": chain(grammar={"regex": "(a+)+(a+)+(a+)+b"}),
    "a deep schema": chain(grammar={"json_schema": deep(60)}),
    "a very deep schema": chain(grammar={"json_schema": deep(400)}),
}
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "typical_p", "xtc_threshold", "mirostat_tau")


async def test_hostile_parameters_are_refused_while_a_stream_goes_on(demo: Served) -> None:
    """Each is refused by the field's name. The stream beside them says what it says when nobody else is there."""
    body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "seed": 5}
    async with httpx.AsyncClient(base_url=demo.url, timeout=60) as client:

        async def stream() -> str:
            text = ""
            async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as reply:
                async for line in reply.aiter_lines():
                    if line.startswith("data: {"):
                        text += json.loads(line[6:])["choices"][0]["text"]
            return text

        beside = asyncio.create_task(stream())
        for name, (fields, param) in HOSTILE.items():
            began = time.monotonic()
            reply = await client.post("/v1/completions", json={"model": "demo", "prompt": "Once", **fields})
            assert reply.status_code == 400, (name, reply.text[:300])
            assert time.monotonic() - began < SOON, name
            error = reply.json()["error"]
            assert error["message"], name
            assert (error["param"] or "").startswith(param), (name, error)
        for name, fields in ELABORATE.items():
            began = time.monotonic()
            asked = {"model": "demo", "prompt": "Once", "max_tokens": 3, **fields}
            reply = await client.post("/v1/completions", json=asked)
            assert reply.status_code in (200, 400), (name, reply.text[:300])
            assert time.monotonic() - began < SOON, name
        for field in NUMBERS:
            for number in ("NaN", "Infinity", "-Infinity", "1e999"):
                raw = f'{{"model": "demo", "prompt": "Once", "{field}": {number}}}'
                reply = await client.post("/v1/completions", content=raw, headers={"Content-Type": "application/json"})
                assert reply.status_code == 400, (field, number, reply.text[:300])
        assert await beside == await stream()
