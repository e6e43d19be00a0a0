"""`/v1/embeddings` over an engine whose vectors are known. Those of a model: tests/end_to_end/test_embeddings.py."""

import asyncio
import base64
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from fake_engine import embedding_of
from numpy.typing import NDArray
from server_api import MODEL, Api, MakeApi, listening

from penstock_engine.errors import QueueFull, RequestFailed, RequestRefused
from penstock_engine.request import PromptReading
from penstock_server.replies.embeddings import shaped
from penstock_server.schemas import unsupported
from penstock_server.schemas.embeddings import MAX_INPUTS, REFUSED

pytestmark = pytest.mark.anyio

TEXTS = ["The water turns the wheel.", "naïve café 🙂", "x"]


async def embed(api: Api, **fields: object) -> httpx.Response:
    return await api.client.post("/v1/embeddings", json={"model": MODEL, "input": "Hello", **fields})


async def vectors(api: Api, **fields: object) -> NDArray[np.float32]:
    response = await embed(api, **fields)
    assert response.status_code == 200, response.text
    return np.array([one["embedding"] for one in response.json()["data"]], np.float32)


def raw(api: Api, token_ids: list[int], pooling: str = "mean") -> NDArray[np.float32]:
    return np.frombuffer(embedding_of(token_ids, pooling, api.engine.info.hidden_size), np.float32)


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    shorter: NDArray[np.float32] = vector / np.sqrt(np.sum(vector.astype(np.float64) ** 2))
    return shorter.astype(np.float32)


def error_of(response: httpx.Response, status: int = 400) -> Any:
    assert response.status_code == status, response.text
    return response.json()["error"]


async def test_the_reply(api: Api) -> None:
    ids = [api.encode(text) for text in TEXTS]
    response = await embed(api, input=TEXTS, user="someone")
    told = response.json()
    assert told.keys() == {"object", "data", "model", "usage"}
    assert (told["object"], told["model"]) == ("list", MODEL)
    assert [(one["object"], one["index"]) for one in told["data"]] == [("embedding", i) for i in range(3)]
    count = sum(map(len, ids))
    assert told["usage"] == {"prompt_tokens": count, "total_tokens": count}
    for one, token_ids in zip(told["data"], ids, strict=True):
        np.testing.assert_allclose(one["embedding"], unit(raw(api, token_ids)), rtol=1e-6)
    for request, token_ids in zip(api.engine.requests, ids, strict=True):
        assert request.prompt == tuple(token_ids) and request.stop.max_tokens == 0
        assert request.reading == PromptReading(pooling="mean")


async def test_the_four_shapes_of_input(api: Api) -> None:
    ids = [api.encode(text) for text in TEXTS[:2]]
    np.testing.assert_array_equal(await vectors(api, input=TEXTS[:2]), await vectors(api, input=ids))
    np.testing.assert_array_equal(await vectors(api, input=TEXTS[0]), await vectors(api, input=ids[0]))


async def test_pooling_normalize_and_dimensions(api: Api) -> None:
    last = raw(api, api.encode("Hello"), "last")
    np.testing.assert_array_equal(await vectors(api, pooling="last", normalize=False), [last])
    np.testing.assert_array_equal(await vectors(api, pooling="last", use_activation=False), [last])
    np.testing.assert_array_equal(await vectors(api, pooling="last", normalize=False, use_activation=False), [last])
    np.testing.assert_array_equal(await vectors(api, pooling="last", normalize=False, dimensions=3), [last[:3]])
    (shorter,) = await vectors(api, pooling="last", dimensions=3)
    np.testing.assert_allclose(shorter, unit(last[:3]), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(shorter), 1, rtol=1e-6)
    np.testing.assert_array_equal(await vectors(api, dimensions=8), await vectors(api, normalize=True))


async def test_base64_is_the_same_numbers(api: Api) -> None:
    (numbers,) = await vectors(api)
    told = (await embed(api, encoding_format="base64")).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(told, validate=True), "<f4"), numbers)


async def test_truncation(api: Api) -> None:
    """It is the last tokens that are kept, as in completions, or the first ones if asked."""
    for fields, kept in (
        ({"truncate_prompt_tokens": 3}, [8, 9, 10]),
        ({"truncate_prompt_tokens": 3, "truncation_side": "right"}, [1, 2, 3]),
        ({"truncate_prompt_tokens": 99}, list(range(1, 11))),
    ):
        response = await embed(api, input=list(range(1, 11)), **fields)
        assert api.engine.requests[-1].prompt == tuple(kept)
        assert response.json()["usage"]["prompt_tokens"] == len(kept)
    most = api.engine.info.max_model_len
    await embed(api, input=[1] * 5 + [2] * most, truncate_prompt_tokens=-1)
    assert api.engine.requests[-1].prompt == (2,) * most
    await embed(api, input="wheel " * 1000, truncate_prompt_tokens=-1)
    assert len(api.engine.requests[-1].prompt) == most


async def test_the_rest_reaches_the_engine(api: Api) -> None:
    await embed(api, priority=-3, cache_salt="mine")
    assert (api.engine.requests[-1].priority, api.engine.requests[-1].cache_salt) == (-3, "mine")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_type"),
        ({"input": ["a", ""]}, "input.1", "invalid_value"),
        ({"input": [[1], []]}, "input.1", "invalid_value"),
        ({"input": 1}, "input", "invalid_type"),
        ({"input": {"text": "a"}}, "input", "invalid_type"),
        ({"input": ["a", 1]}, "input.1", "invalid_type"),
        ({"input": [1, 10**6]}, "input.1", "invalid_value"),
        ({"input": [1, -1]}, "input.1", "invalid_type"),
        ({"input": ["x"] * (MAX_INPUTS + 1)}, "input", "invalid_value"),
        ({"input": [1] * 257}, "input", "context_length_exceeded"),
        ({"input": ["x", "wheel " * 1000]}, "input.1", "context_length_exceeded"),
        ({"input": ["x", "w" * 2**20]}, "input.1", "context_length_exceeded"),
        ({"encoding_format": "bytes"}, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": 9}, "dimensions", "invalid_value"),
        ({"dimensions": "3"}, "dimensions", "invalid_type"),
        ({"dimensions": True}, "dimensions", "invalid_type"),
        ({"pooling": "cls"}, "pooling", "invalid_value"),
        ({"normalize": 1}, "normalize", "invalid_type"),
        ({"normalize": True, "use_activation": False}, "use_activation", "invalid_value"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "invalid_value"),
        ({"truncation_side": "middle"}, "truncation_side", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages", "unsupported_parameter"),
        ({"dimension": 3}, "dimension", "unknown_parameter"),
        ({"stream": True}, "stream", "unknown_parameter"),
    ],
)
async def test_refusals_name_the_field(api: Api, fields: dict[str, Any], param: str, code: str) -> None:
    error = error_of(await embed(api, **fields))
    assert (error["param"], error["code"]) == (param, code) and not api.engine.requests


async def test_what_is_not_done_is_refused_unless_it_asks_for_nothing(api: Api) -> None:
    for name, neutral in REFUSED.items():
        error = error_of(await embed(api, **{name: "something"}))
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")
        for value in (None, *neutral):
            assert (await embed(api, **{name: value})).status_code == 200
    for name in unsupported.INERT:
        assert (await embed(api, **{name: "x"})).status_code == 200


async def test_a_lenient_server_tells_what_it_passed_over(make_api: MakeApi) -> None:
    response = await embed(make_api(lenient=True), dimension=3)
    assert response.json()["warnings"] == ["dimension: unknown field; did you mean 'dimensions'?"]


async def test_an_unknown_model(api: Api) -> None:
    assert error_of(await embed(api, model="other"), 404)["code"] == "model_not_found"


async def test_the_model_entry_tells_of_them(api: Api) -> None:
    told = (await api.client.get(f"/v1/models/{MODEL}")).json()["penstock"]["embeddings"]
    assert told == {"dimensions": 8, "poolings": ["mean", "last"], "default_pooling": "mean"}


@pytest.mark.parametrize(
    ("refusal", "status", "param"),
    [(RequestRefused("prompt", "is longer than the KV cache"), 400, "input.0"), (QueueFull(3, 7), 429, None)],
)
async def test_the_engine_refuses(api: Api, refusal: Exception, status: int, param: str | None) -> None:
    api.engine.refusal = refusal
    assert error_of(await embed(api, input=["a", "b"]), status)["param"] == param


async def test_a_fault_ends_all_of_them(api: Api) -> None:
    api.engine.fault = RequestFailed("the model gave hidden states that are no numbers")
    error = error_of(await embed(api, input=["a", "b", "c"]), 500)
    assert (error["code"], error["message"]) == ("generation_failed", str(api.engine.fault))
    assert all(stream.is_over or stream.aborted for stream in api.engine.streams)


async def test_a_client_that_goes_away_ends_them(api: Api) -> None:
    api.engine.hold()
    async with listening(api) as url, httpx.AsyncClient(base_url=url) as client:
        asked = asyncio.create_task(client.post("/v1/embeddings", json={"model": MODEL, "input": ["a", "b", "c"]}))
        while len(api.engine.streams) < 3:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait_for(asyncio.gather(*(stream.end.wait() for stream in api.engine.streams)), 10)
    assert all(stream.aborted == [None] for stream in api.engine.streams)


async def test_the_metrics_count_them(api: Api) -> None:
    await embed(api, input=TEXTS)
    told = (await api.client.get("/metrics")).text
    assert 'penstock_http_responses_total{route="/v1/embeddings",status="200"} 1.0' in told
    assert "penstock_request_duration_seconds_count 1.0" in told


async def test_the_official_client(api: Api) -> None:
    """It asks for base64 unless told otherwise, and decodes it."""
    (expected,) = await vectors(api, input=TEXTS[0])
    async with listening(api) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        encodings: tuple[Any, ...] = (openai.omit, "float", "base64")
        for encoding in encodings:
            told = await client.embeddings.create(model=MODEL, input=TEXTS, encoding_format=encoding)
            assert [one.index for one in told.data] == [0, 1, 2] and told.usage.total_tokens == told.usage.prompt_tokens
            got: Any = told.data[0].embedding
            if encoding == "base64":
                got = np.frombuffer(base64.b64decode(got), "<f4")
            np.testing.assert_array_equal(np.array(got, np.float32), expected)
        shorter = await client.embeddings.create(model=MODEL, input=[[1, 2], [3]], dimensions=2)
        assert [len(one.embedding) for one in shorter.data] == [2, 2]
        with pytest.raises(openai.BadRequestError) as bad:
            await client.embeddings.create(model=MODEL, input=TEXTS, dimensions=100)
        assert bad.value.param == "dimensions"


def test_a_vector_of_zeros_stays_one() -> None:
    """It has no direction: divided by its length it would be no numbers, which JSON has no word for."""
    zeros, large = np.zeros(4, np.float32), np.full(4, 1e38, np.float32)
    np.testing.assert_array_equal(
        shaped([zeros.tobytes(), large.tobytes()], 4, normalizes=True), [[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]]
    )
