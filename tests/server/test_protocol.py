"""HTTP on the wire: what other parsers read in our events, and what connections may do that ours do not."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fake_engine import cycling
from server_api import MODEL, Api, MakeApi, listening, send

pytestmark = pytest.mark.anyio

# Everything that a parser might take for the end of a line or of an event, and what is cut between bytes.
HARD_TEXTS = ("a\nb\r\nc\rd", "data: x\n\ndata: y", "\x85\u2028\u2029", "🙂 é 漢", ":\n:ping\n", "event: done\n\n")


def whatwg_events(body: bytes) -> list[tuple[str, str]]:
    """Kind and data of each event, by the steps of the HTML standard (9.2.6, "Interpreting an event stream")."""
    text = body.decode("utf-8", errors="replace").removeprefix("\ufeff")
    told: list[tuple[str, str]] = []
    kind, data = "", ""
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                told.append((kind or "message", data.removesuffix("\n")))
            kind, data = "", ""
        elif field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
    return told


def line_iterator_events(body: bytes) -> list[tuple[str, str]]:
    """As many small clients do it: `str.splitlines`, which breaks at more characters than the standard does."""
    told: list[tuple[str, str]] = []
    kind = "message"
    for line in body.decode().splitlines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            told.append((kind, line.removeprefix("data: ")))
            kind = "message"
    return told


@pytest.mark.parametrize("text", HARD_TEXTS)
@pytest.mark.parametrize("route", ["complete", "chat"])
async def test_parsers_agree_on_any_text(api: Api, route: str, text: str) -> None:
    api.say(text)
    reply = await getattr(api, route)(stream=True, max_tokens=60, stream_options={"include_usage": True})
    read = whatwg_events(reply.content)
    assert read == line_iterator_events(reply.content)
    assert read.pop() == ("message", "[DONE]")
    said = ""
    for _, data in read:
        for choice in json.loads(data)["choices"]:
            said += choice["text"] if "text" in choice else choice["delta"].get("content", "")
    assert said == text


async def test_parsers_agree_on_messages(api: Api) -> None:
    api.say(HARD_TEXTS[0])
    asked = {"model": MODEL, "max_tokens": 60, "stream": True, "messages": [{"role": "user", "content": "x"}]}
    reply = await api.client.post("/v1/messages", json=asked)
    read = whatwg_events(reply.content)
    assert read == line_iterator_events(reply.content)
    assert [kind for kind, data in read] == [json.loads(data)["type"] for _, data in read]
    deltas = [json.loads(data)["delta"]["text"] for kind, data in read if kind == "content_block_delta"]
    assert "".join(deltas) == HARD_TEXTS[0]


def request(body: bytes, *headers: str, path: str = "/v1/completions") -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


def asked(**fields: object) -> bytes:
    return json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 2, **fields}).encode()


async def exchange(url: str, *parts: bytes) -> AsyncIterator[tuple[int, Any]]:
    """Send the parts, each when the one before has left; status and JSON of each reply until the server closes."""
    reader, writer = await connect(url)
    for part in parts:
        writer.write(part)
        await writer.drain()
    async for reply in replies(reader):
        yield reply
    writer.close()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def replies(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, Any]]:
    """Status and JSON of each reply that has a length."""
    while line := await asyncio.wait_for(reader.readline(), 20):
        status, length = int(line.split()[1]), 0
        while (header := await reader.readline()) != b"\r\n":
            name, _, value = header.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        yield status, json.loads(await reader.readexactly(length))


async def test_pipelined_requests_are_answered_in_order(api: Api) -> None:
    """All in one packet, a bad one among them; also cut anywhere."""
    bodies = [asked(), b"{", asked(n=2), asked(prompt=["a", "b", "c"])]
    wire = b"".join(map(request, bodies[:-1])) + request(bodies[-1], "Connection: close")
    async with listening(api) as url:
        for parts in ([wire], [wire[i : i + 97] for i in range(0, len(wire), 97)]):
            got = [(status, len(reply.get("choices", []))) async for status, reply in exchange(url, *parts)]
            assert got == [(200, 1), (400, 0), (200, 2), (200, 3)]


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("num_pieces", [1, 2, 40])
async def test_an_offer_of_another_protocol_is_passed_over(api: Api, protocol: str, num_pieces: int) -> None:
    """The body was lost: the parser took what followed such a head for the other protocol. Java's clients offer h2c."""
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAEAAEAAAAIAAAAA")
    wire = request(asked(), *offer) + request(asked(n=2), "Connection: close")
    size = -(-len(wire) // num_pieces)
    async with listening(api) as url:
        parts = [wire[i : i + size] for i in range(0, len(wire), size)]
        got = [(status, len(reply["choices"])) async for status, reply in exchange(url, *parts)]
    assert got == [(200, 1), (200, 2)]
    assert len(api.engine.requests) == 2


async def test_an_offer_keeps_the_wish_to_close(api: Api) -> None:
    async with listening(api) as url:
        wire = request(asked(), "Connection: close, Upgrade", "Upgrade: h2c") + request(asked())
        assert [status async for status, _ in exchange(url, wire)] == [200]


@pytest.mark.parametrize(
    "body", [b'{"model": "\xff"}', b'{"prompt": "\xed\xa0\x80"}', b'"\xc3', b"\xff\xfe{\x00}\x00", b"\x80" * 1000]
)
async def test_invalid_utf_8_is_a_400(api: Api, body: bytes) -> None:
    async with listening(api) as url:
        ((status, reply),) = [one async for one in exchange(url, request(body, "Connection: close"))]
    assert (status, reply["error"]["code"]) == (400, "invalid_json")


async def test_a_half_closed_socket_is_a_client_that_has_gone(api: Api) -> None:
    """One that has sent all it will is taken for one that has left: on loopback and behind proxies these look alike,
    and a request that nobody reads must not run on."""
    api.engine.hold()
    async with listening(api) as url:
        _reader, writer = await send(url, stream=True)
        while not api.engine.streams:
            await asyncio.sleep(0)
        writer.write_eof()
        await asyncio.wait_for(api.engine.streams[0].end.wait(), 10)
        assert api.engine.streams[0].aborted == [None]
        writer.close()


async def test_a_reader_that_comes_back_in_time_loses_nothing(make_api: MakeApi) -> None:
    """It reads nothing until all has been made and others have been answered, then everything, from full sockets on."""
    api = make_api(max_model_len=10**6)
    api.engine.next_token = cycling(api.encode(" water"))
    num_tokens = 30_000  # of some 200 bytes each: more than the sockets' buffers hold
    async with listening(api) as url:
        reader, writer = await send(url, stream=True, max_tokens=num_tokens, ignore_eos=True)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            while not (api.engine.streams and api.engine.streams[0].is_over):
                answer = await client.post("/v1/completions", json=json.loads(asked()))
                assert answer.status_code == 200
            metrics = (await client.get("/metrics")).text
        assert "penstock_http_in_flight 2.0" in metrics, "nothing was held back: the buffers took it all"
        body = await asyncio.wait_for(_until_done(reader), 60)
        writer.close()
    assert body.count(b"data: {") == num_tokens


async def _until_done(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while not body.endswith(b"data: [DONE]\n\n\r\n") and (part := await reader.read(2**16)):
        body += part
    return bytes(body)


async def test_many_streams_at_once_are_each_whole_and_their_own(make_api: MakeApi) -> None:
    """256 connections; each request is told apart by how long its answer is and by its seed."""
    api = make_api()
    count = 256
    async with listening(api) as url:
        connections = [await send(url, stream=True, max_tokens=3 + i % 7, seed=i) for i in range(count)]

        async def read(index: int) -> None:
            reader, writer = connections[index]
            body = await asyncio.wait_for(_until_done(reader), 60)
            writer.close()
            told = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
            assert len(told) == 3 + index % 7 and body.count(b"[DONE]") == 1
            assert {json.loads(one)["seed"] for one in told} == {index}

        await asyncio.gather(*map(read, range(count)))
    assert await api.context.life.drain(10)


async def test_a_megabyte_of_prompt_holds_up_nobody(api: Api) -> None:
    """Refused for its length, or cut to it, while another stream's tokens come."""
    prompt = "the wheel turns " * 2**16
    assert len(prompt) == 2**20
    async with listening(api) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        long = {"model": MODEL, "prompt": prompt, "max_tokens": 1}
        refusal = asyncio.create_task(client.post("/v1/completions", json=long))
        cut = asyncio.create_task(client.post("/v1/completions", json={**long, "truncate_prompt_tokens": 9}))
        short = await client.post("/v1/completions", json=json.loads(asked()))
        assert short.status_code == 200
        assert not cut.done(), "the short request was answered first"
        reply = await refusal
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert (await cut).json()["usage"]["prompt_tokens"] == 9


def test_the_listener_takes_a_crowd_at_once() -> None:
    """As many connections as come in one burst wait to be accepted; a small backlog would drop some."""
    from penstock_server.settings import ServerConfig
    from penstock_server.start import bind

    with bind(ServerConfig(port=0)) as listener:
        crowd = [socket.create_connection(listener.getsockname(), timeout=5) for _ in range(256)]
        for one in crowd:
            one.close()
