"""Every failure has OpenAI's shape and names the field; nothing that is asked for is dropped in silence."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_api import MODEL, Api, MakeApi, listening

from penstock_engine.errors import EngineUnavailable, QueueFull, RequestFailed, RequestRefused
from penstock_server.schemas import unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import CompletionBody

pytestmark = pytest.mark.anyio

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
FIELDS = sorted(CompletionBody.model_fields)


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"} and body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"] and body["error"]["type"]
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"x"', b"null", b"{'a': 1}", b'{"temperature": NaN}', b'{"temperature": Infinity}',
        b'{"temperature": 1e999}', b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"\xef\xbb\xbf{}", b"[" * 100_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", [COMPLETIONS, CHAT])
async def test_hostile_bodies(api: Api, route: str, body: bytes) -> None:
    response = await api.client.post(route, content=body, headers={"Content-Type": "application/json"})
    assert error_of(response)["code"] == "invalid_json"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)


@given(body=st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_body_is_answered_in_shape(api: Api, body: bytes) -> None:
    for route in (COMPLETIONS, CHAT):
        response = await api.client.post(route, content=body, headers={"Content-Type": "application/json"})
        error_of(response, response.status_code if response.status_code in (400, 404) else 400)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_content_types(api: Api, content_type: str) -> None:
    response = await api.client.post(COMPLETIONS, content=b"{}", headers={"Content-Type": content_type})
    assert error_of(response)["code"] == "invalid_content_type"


async def test_the_bodys_limit(make_api: MakeApi) -> None:
    api = make_api(max_request_bytes=1000)
    assert error_of(await api.complete(prompt="x" * 1000), 413)["code"] == "request_too_large"

    async def pieces() -> Any:
        for _ in range(5):
            yield b" " * 400

    response = await api.client.post(COMPLETIONS, content=pieces(), headers={"Content-Type": "application/json"})
    assert error_of(response, 413)["code"] == "request_too_large"


@pytest.mark.parametrize("route", [COMPLETIONS, CHAT])
async def test_required_fields(api: Api, route: str) -> None:
    for body, param in (({}, "model"), ({"model": MODEL}, "prompt" if route == COMPLETIONS else "messages")):
        error = error_of(await api.client.post(route, json=body))
        assert (error["param"], error["code"]) == (param, "missing_required_parameter")


BAD_FIELDS: list[tuple[str, object, str]] = [
    ("max_tokens", -1, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("max_tokens", "4", "max_tokens"),
    ("max_tokens", True, "max_tokens"),
    ("max_tokens", 10**30, "max_tokens"),
    ("n", 0, "n"),
    ("n", 10**6, "n"),
    ("temperature", -1, "temperature"),
    ("temperature", 2.1, "temperature"),
    ("temperature", "1", "temperature"),
    ("top_p", 1.5, "top_p"),
    ("top_p", 0, "top_p"),
    ("top_k", -2, "top_k"),
    ("min_p", 2, "min_p"),
    ("repetition_penalty", 0, "repetition_penalty"),
    ("presence_penalty", 5, "presence_penalty"),
    ("frequency_penalty", -3, "frequency_penalty"),
    ("logit_bias", {"x": 1}, "logit_bias"),
    ("logit_bias", {"100000": 1}, "logit_bias"),
    ("logit_bias", [1], "logit_bias"),
    ("min_tokens", -1, "min_tokens"),
    ("seed", 2**70, "seed"),
    ("seed", "7", "seed"),
    ("decoding", {"strategy": "beem"}, "decoding.strategy"),
    ("decoding", {"chain": [{"top_k": 4}, {"top_q": 1}]}, "decoding.chain.1.top_q"),
    ("decoding", 1, "decoding"),
    ("stop", "", "stop"),
    ("stop", ["a", ""], "stop.1"),
    ("stop", [1], "stop.0"),
    ("stop", 1, "stop"),
    ("stop", list("abcdefghijklmnopqr"), "stop"),
    ("stop_token_ids", [-1], "stop_token_ids.0"),
    ("stop_token_ids", [3, 10**6], "stop_token_ids.1"),
    ("ignore_eos", 1, "ignore_eos"),
    ("stream", "yes", "stream"),
    ("stream_options", {"include_usage": True}, "stream_options"),
    ("priority", 2**40, "priority"),
    ("cache_salt", 7, "cache_salt"),
    ("cache_salt", "x" * 300, "cache_salt"),
    ("model", 1, "model"),
]
BAD_COMPLETION_FIELDS: list[tuple[str, object, str]] = [
    ("prompt", 1, "prompt"),
    ("prompt", [], "prompt"),
    ("prompt", [[]], "prompt.0"),
    ("prompt", ["a", 1], "prompt.1"),
    ("prompt", [1, "a"], "prompt.1"),
    ("prompt", [1, -2], "prompt.1"),
    ("prompt", [1, True], "prompt.1"),
    ("prompt", [[1], [2, 10**6]], "prompt.1.1"),
    ("prompt", [[1]] * 4097, "prompt"),
    ("min_tokens", 99, "min_tokens"),
    ("logprobs", 21, "logprobs"),
    ("logprobs", True, "logprobs"),
    ("best_of", 0, "best_of"),
    ("suffix", "x", "suffix"),
    ("messages", [], "messages"),
]
BAD_CHAT_FIELDS: list[tuple[str, object, str]] = [
    ("messages", [], "messages"),
    ("messages", "x", "messages"),
    ("messages", ["x"], "messages.0"),
    ("messages", [{"content": "x"}], "messages.0.role"),
    ("messages", [{"role": "poet", "content": "x"}], "messages.0.role"),
    ("messages", [{"role": "user"}], "messages.0.content"),
    ("messages", [{"role": "user", "content": 1}], "messages.0.content"),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages.0.content.0.type"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text"),
    ("messages", [{"role": "user", "content": "x", "wit": 1}], "messages.0.wit"),
    ("messages", [{"role": "assistant", "content": "x", "tool_calls": [{}]}], "messages.0.tool_calls.0.id"),
    ("logprobs", 1, "logprobs"),
    ("top_logprobs", 2, "top_logprobs"),
    ("tools", [{}], "tools.0.type"),
    ("tool_choice", "required", "tool_choice"),
    ("response_format", {"type": "poem"}, "response_format.type"),
    ("modalities", ["audio"], "modalities"),
    ("reasoning_effort", "low", "reasoning_effort"),
    ("chat_template", "{{ x }}", "chat_template"),
    ("prompt", "x", "prompt"),
]


@pytest.mark.parametrize(("field", "value", "param"), [*BAD_FIELDS, *BAD_COMPLETION_FIELDS])
async def test_completions_refuse_by_name(api: Api, field: str, value: object, param: str) -> None:
    error = error_of(await api.complete(**{field: value}))
    assert error["param"] == param and not api.engine.requests


@pytest.mark.parametrize(("field", "value", "param"), [*BAD_FIELDS, *BAD_CHAT_FIELDS])
async def test_chat_refuses_by_name(api: Api, field: str, value: object, param: str) -> None:
    error = error_of(await api.chat(**{field: value}))
    assert error["param"] == param and not api.engine.requests


@pytest.mark.parametrize(("route", "table"), [("complete", unsupported.COMPLETION), ("chat", unsupported.CHAT)])
async def test_unsupported_fields_are_refused_unless_idle(api: Api, route: str, table: dict[str, Any]) -> None:
    for name, neutral in table.items():
        error = error_of(await getattr(api, route)(**{name: "something"}))
        assert (error["param"], error["code"]) == (name, "unsupported_parameter") and name in error["message"]
        for value in (None, *neutral):
            assert (await getattr(api, route)(**{name: value}, max_tokens=1)).status_code == 200


def test_no_field_is_both_supported_and_not() -> None:
    for schema, table in ((CompletionBody, unsupported.COMPLETION), (ChatBody, unsupported.CHAT)):
        assert not schema.model_fields.keys() & (table.keys() | unsupported.INERT)


@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_null_means_not_given(api: Api, route: str) -> None:
    schema = CompletionBody if route == "complete" else ChatBody
    nulls = dict.fromkeys(name for name in schema.model_fields if name not in ("model", "prompt", "messages"))
    assert (await getattr(api, route)(**nulls)).status_code == 200


async def test_fields_that_cannot_change_an_answer(api: Api) -> None:
    for name in unsupported.INERT:
        assert (await api.complete(**{name: "x"}, max_tokens=1)).status_code == 200


async def test_best_of_equal_to_n(api: Api) -> None:
    assert (await api.complete(best_of=2, n=2, max_tokens=1)).status_code == 200


async def test_an_unknown_field_names_the_nearest(api: Api) -> None:
    error = error_of(await api.complete(temprature=1))
    assert error["param"] == "temprature" and "'temperature'" in error["message"]
    assert error["code"] == "unknown_parameter"
    error = error_of(await api.chat(stream=True, stream_options={"include_usage": True, "includ": 1}))
    assert error["param"] == "stream_options.includ"


async def test_the_context_is_not_exceeded(api: Api) -> None:
    error = error_of(await api.complete(prompt=[1] * 200, max_tokens=57))
    assert error["param"] == "max_tokens" and error["code"] == "context_length_exceeded"
    assert all(number in error["message"] for number in ("200", "57", "257", "256"))
    assert error_of(await api.complete(prompt=[1] * 256))["param"] == "prompt"
    assert error_of(await api.complete(prompt="wheel " * 1000))["param"] == "prompt"
    assert error_of(await api.chat(max_completion_tokens=250))["param"] == "max_completion_tokens"
    assert error_of(await api.chat(messages=[{"role": "user", "content": "x, " * 300}]))["param"] == "messages"
    assert (await api.complete(prompt=[1] * 200, max_tokens=56)).status_code == 200


async def test_a_megabyte_is_refused_before_it_is_encoded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding it takes a second, and longer for some texts, only to be told that it is too long."""
    monkeypatch.setattr(type(api.context.model.codec.tokenizer), "encode", lambda *_, **__: pytest.fail("encoded"))
    assert error_of(await api.complete(prompt="a" * 2**20))["code"] == "context_length_exceeded"


@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_an_unknown_model(api: Api, route: str) -> None:
    error = error_of(await getattr(api, route)(model="gpt-4"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_unknown_paths_and_methods(api: Api) -> None:
    for path in ("/", "/v1", "/v2/completions", "/v1/completions/"):
        assert error_of(await api.client.get(path), 404)["code"] == "unknown_path"
    response = await api.client.get(COMPLETIONS)
    assert error_of(response, 405)["code"] == "method_not_allowed" and response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("refusal", "status", "param"),
    [
        (RequestRefused("prompt", "is longer than the KV cache"), 400, "prompt"),
        (QueueFull(3, 7), 429, None),
        (EngineUnavailable("the engine has failed"), 503, None),
        (RuntimeError("/secret/path"), 500, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_engine_refuses(
    api: Api, refusal: Exception, status: int, param: str | None, stream: bool
) -> None:
    """Before the first byte a refusal is a status, also of a stream."""
    api.engine.refusal = refusal
    response = await api.complete(stream=stream)
    assert error_of(response, status)["param"] == param
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)
    assert "/secret" not in response.text


async def test_a_refused_prompt_takes_the_accepted_ones_back(api: Api) -> None:
    """All prompts of a request or none: what the engine took before the refusal is aborted."""
    submit = api.engine.submit

    async def third_is_refused(request: Any) -> Any:
        if request.prompt == (3,):
            raise QueueFull(3, 1)
        return await submit(request)

    api.engine.submit = third_is_refused  # type: ignore[method-assign]  # a test's engine
    assert error_of(await api.complete(prompt=[[1], [2], [3]]), 429)["code"] == "queue_full"
    assert [stream.aborted for stream in api.engine.streams] == [[None], [None]]


async def test_a_request_that_fails_alone(api: Api) -> None:
    api.engine.fault = RequestFailed("a non-finite logit")
    assert "non-finite" in error_of(await api.complete(), 500)["message"]


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET /health HTTP/1.1\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n"]
)
async def test_what_is_not_http_or_has_endless_headers(api: Api, sent: bytes) -> None:
    async with listening(api) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.split()[1] in (b"400", b"431") and b"application/json" in head
    assert json.loads(body)["error"]["code"] == "invalid_http"


async def test_the_model_list(api: Api) -> None:
    listed = (await api.client.get("/v1/models")).json()
    assert listed["object"] == "list" and [model["id"] for model in listed["data"]] == [MODEL, "alias"]
    one = (await api.client.get(f"/v1/models/{MODEL}")).json()
    assert {key: item for key, item in one.items() if key != "penstock"} == listed["data"][0]
    assert error_of(await api.client.get("/v1/models/other"), 404)["code"] == "model_not_found"
