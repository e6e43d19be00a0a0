"""The HTTP side: what servers answer, well and badly, as chunks and as sentences."""

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from chat_parts import URL, Handler, connection_to, run, stream_of

from penstock_chat.chunks import Chunk
from penstock_chat.connection import Connection
from penstock_chat.endpoint import read_endpoint
from penstock_chat.errors import Broken, ChatError, Refused, ServerError, Unreachable

BODY = {"model": "m", "messages": []}


def chunks_of(handler: Handler, key: str | None = None) -> list[Chunk]:
    async def collect() -> list[Chunk]:
        connection = connection_to(handler, key)
        try:
            return [chunk async for chunk in connection.stream(BODY)]
        finally:
            await connection.close()

    return run(collect())


def answering(response: httpx2.Response) -> Handler:
    return lambda request: response


def data(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def delta(seed: object = None, usage: object = None, reason: object = None, **fields: object) -> bytes:
    return data({"choices": [{"index": 0, "delta": fields, "finish_reason": reason}], "seed": seed, "usage": usage})


def failure_of(response: httpx2.Response, key: str | None = None) -> ServerError:
    with pytest.raises(ServerError) as caught:
        chunks_of(answering(response), key)
    return caught.value


def test_a_whole_stream() -> None:
    events = [
        delta(role="assistant", content=""),
        b": ping\n\n",
        delta(content="Hé", seed=7),
        delta(reason="stop"),
        data({"choices": [], "usage": {"completion_tokens": 9}}),
    ]
    assert chunks_of(answering(stream_of(*events))) == [
        Chunk(),
        Chunk(text="Hé", seed=7),
        Chunk(finish_reason="stop"),
        Chunk(num_tokens=9),
    ]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"choices": None, "usage": None, "seed": "7"},
        {"choices": [None, 3], "usage": [], "seed": True},
        {"choices": [{"index": 0, "delta": None, "finish_reason": 3}]},
        {"choices": [{"index": 1, "delta": {"content": "another choice"}}]},
        {"choices": [{"delta": {"content": ["parts"], "reasoning_content": {}}}]},
    ],
)
def test_odd_fields_are_absent(value: object) -> None:
    assert chunks_of(answering(stream_of(data(value)))) == [Chunk()]


def test_a_reasoning_model() -> None:
    events = stream_of(
        delta(reasoning_content="Hm"), delta(reasoning="m"), delta(content="Yes", reasoning_content=None)
    )
    assert chunks_of(answering(events)) == [Chunk(thought="Hm"), Chunk(thought="m"), Chunk(text="Yes")]


def test_a_server_that_does_not_stream() -> None:
    whole = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 3},
    }
    assert chunks_of(answering(httpx2.Response(200, json=whole))) == [Chunk("Hello", "", "stop", None, 3)]


def test_no_end_mark_after_a_finish_reason() -> None:
    assert len(chunks_of(answering(stream_of(delta(reason="stop"), end=b"")))) == 1


def test_usage_is_asked_for_until_it_is_refused() -> None:
    """Some servers know no `stream_options`: they are asked without, and never with them again."""
    bodies: list[dict[str, Any]] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        if "stream_options" in bodies[-1]:
            return httpx2.Response(422, json={"detail": [{"loc": ["body", "stream_options"], "msg": "extra field"}]})
        return stream_of(delta(content="x", reason="stop"))

    async def twice() -> None:
        connection = connection_to(handler)
        for _ in range(2):
            assert [chunk.text async for chunk in connection.stream(BODY)] == ["x"]
        await connection.close()

    run(twice())
    assert ["stream_options" in body for body in bodies] == [True, False, False]
    assert all(body["stream"] is True for body in bodies)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (
            [b"event: error\ndata: " + json.dumps({"error": {"message": "engine died"}}).encode() + b"\n\n"],
            "engine died",
        ),
        ([b"event: error\ndata: oh no\n\n"], "the server reported an error: oh no"),
        ([data({"error": {"message": "CUDA", "code": 500}})], "CUDA"),
        ([data({"object": "error", "message": "old vLLM"})], "old vLLM"),
        ([data({"error": {}})], "an error without a message"),
        ([b"data: {nonsense\n\n"], "not JSON"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "not JSON"),
        ([data([1])], "not a JSON object"),
        ([delta(content="x")], "ended before the reply did"),
    ],
)
def test_streams_that_break(events: Sequence[bytes], told: str) -> None:
    failure = failure_of(stream_of(*events, end=b""))
    assert isinstance(failure, Broken)
    assert told in failure.message


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (
            httpx2.ConnectError("Connection refused"),
            Unreachable,
            "no server at http://server.test/v1 (Connection refused",
        ),
        (httpx2.ConnectTimeout(""), Unreachable, "no answer"),
        (httpx2.ReadTimeout(""), Broken, "stopped answering"),
        (
            httpx2.RemoteProtocolError("peer closed"),
            Broken,
            "the connection to http://server.test/v1 broke: peer closed",
        ),
        (httpx2.ReadError(""), Broken, "ReadError"),
    ],
)
def test_the_network_fails(error: Exception, kind: type, told: str) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(kind) as before:
        chunks_of(handler)
    with pytest.raises(kind) as midway:
        chunks_of(answering(stream_of(delta(content="x"), error=error)))
    for caught in (before, midway):
        assert isinstance(caught.value, ChatError)
        assert told in caught.value.message


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (httpx2.Response(400, json={"error": {"message": "temperature: too hot", "param": "temperature"}}), "too hot"),
        (httpx2.Response(400, json={"error": "just text"}), "just text"),
        (httpx2.Response(404, json={"message": "no such model"}), "no such model"),
        (httpx2.Response(422, json={"detail": [{"loc": ["body", "top_k"], "msg": "bad"}]}), "top_k: bad"),
        (httpx2.Response(404, text="<html>"), "404 Not Found; is --url right?"),
        (httpx2.Response(500, text=""), "500 Internal Server Error"),
        (httpx2.Response(301, headers={"location": "https://x/"}), "leads to https://x/; give that server with --url"),
        (
            httpx2.Response(429, headers={"Retry-After": "3"}, json={"error": {"message": "full"}}),
            "full); it asks to wait 3 s",
        ),
        (httpx2.Response(429, text="slow down"), "the server is busy (429)"),
        (httpx2.Response(503, json={"error": {"message": "draining"}}), "503): draining"),
        (httpx2.Response(200, text="<html>", headers={"content-type": "text/html"}), "text/html, not with a stream"),
        (httpx2.Response(200, content=b"{", headers={"content-type": "application/json"}), "not JSON"),
    ],
)
def test_answers_that_are_no_replies(response: httpx2.Response, told: str) -> None:
    assert told in failure_of(response).message


def test_a_refusal_names_its_field() -> None:
    failure = failure_of(httpx2.Response(400, json={"error": {"message": "m", "param": "decoding.chain.0"}}))
    assert isinstance(failure, Refused)
    assert (failure.status, failure.param) == (400, "decoding.chain.0")


def test_keys() -> None:
    denied = httpx2.Response(401, json={"error": {"message": "invalid"}})
    assert "asks for a key: --api-key, or the variable PENSTOCK_API_KEY (401: invalid)" in failure_of(denied).message
    failure = failure_of(httpx2.Response(403, text=""), key="sk-secret")
    assert "does not accept the key (403)" in failure.message
    assert "sk-secret" not in failure.message

    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["authorization"] == "Bearer sk-secret"
        return stream_of(delta(reason="stop"))

    chunks_of(handler, key="sk-secret")


def test_an_endless_error_is_cut() -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65536

    assert "500" in failure_of(httpx2.Response(500, content=endless())).message
    assert sent < 5


@pytest.mark.parametrize(
    ("response", "names"),
    [
        (httpx2.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}), ("a", "b")),
        (httpx2.Response(200, json={"data": [{"id": 3}, "x", {}]}), ()),
        (httpx2.Response(200, json={"data": "x"}), None),
        (httpx2.Response(200, json=[]), None),
        (httpx2.Response(200, text="<html>"), None),
        (httpx2.Response(404, json={}), None),
    ],
)
def test_models(response: httpx2.Response, names: tuple[str, ...] | None) -> None:
    async def models() -> tuple[str, ...]:
        connection = connection_to(answering(response))
        try:
            return await connection.models()
        finally:
            await connection.close()

    if names is None:
        with pytest.raises(ServerError, match="is --url right"):
            run(models())
    else:
        assert run(models()) == names


def test_the_proxy_of_the_environment_is_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would look for the server on itself."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def failure(url: str) -> str:
        connection = Connection(read_endpoint(url, None))
        try:
            with pytest.raises(Unreachable):
                await connection.models()
            return str(connection._client._mounts)
        finally:
            await connection.close()

    assert run(failure("http://127.0.0.1:1")) == "{}"
    assert run(failure(URL)) != "{}"


def test_what_utf_8_cannot_carry_is_sent_all_the_same() -> None:
    """A setting can hold half a pair of surrogates; what that is worth is the server's to say."""
    bodies = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        bodies.append(json.loads(request.content))
        return stream_of(delta(reason="stop"))

    async def ask() -> None:
        connection = connection_to(handler)
        assert [chunk async for chunk in connection.stream({"stop": ["\ud800", "é"]})]
        await connection.close()

    run(ask())
    assert bodies[0]["stop"] == ["\ud800", "é"]


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(404, text=""),
        httpx2.Response(302, headers={"location": "/x"}),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, content=b"{", headers={"content-type": "application/json"}),
    ],
)
def test_a_password_in_the_url_is_not_shown(response: httpx2.Response) -> None:
    async def failure() -> str:
        endpoint = read_endpoint("http://me:secret@server.test", None)
        connection = Connection(endpoint, transport=httpx2.MockTransport(answering(response)))
        with pytest.raises(ServerError) as caught:
            await connection.models()
        with pytest.raises(ServerError) as again:
            assert [chunk async for chunk in connection.stream(BODY)]
        await connection.close()
        return caught.value.message + again.value.message

    message = run(failure())
    assert "server.test" in message and "secret" not in message
