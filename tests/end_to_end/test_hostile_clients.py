"""Clients that misbehave, against a real server: on each route that generates, and all on one server, which then is as
well as before and has nothing to report in its log."""

import asyncio
import gzip
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from real_server import Served, serving

pytestmark = pytest.mark.anyio

# What a slow machine may take; a test that gets there fails.
SECONDS = 60.0
STORY = "Tell me a story about a mouse."
ASK: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": 24},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": STORY}], "max_tokens": 24},
    "/v1/responses": {"input": STORY, "max_output_tokens": 24},
    "/v1/messages": {"messages": [{"role": "user", "content": STORY}], "max_tokens": 24},
}
ROUTES = list(ASK)
each_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("demo", "--send-timeout", "1") as served:
        yield served
        assert served.process.poll() is None, "the server is still there"
        assert served.process.stderr is not None
        served.process.send_signal(signal.SIGTERM)
        log = served.process.stderr.read()
        assert "Traceback" not in log and " ERROR " not in log, log
        assert served.process.wait(SECONDS) == 0


def body(route: str, **fields: object) -> bytes:
    return json.dumps({"model": "demo", "temperature": 0, **ASK[route], **fields}).encode()


def request(route: str, content: bytes, *headers: str, close: bool = True) -> bytes:
    head = [f"POST {route} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    head += ["Connection: close"] if close else []
    return "\r\n".join([*head, *headers, "", ""]).encode("latin-1") + content


def in_chunks(route: str, content: bytes, sizes: Sequence[int], trailer: bytes = b"") -> bytes:
    """The body in chunks of these sizes, over and over."""
    head = [f"POST {route} HTTP/1.1", "Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    wire, at, turn = "\r\n".join([*head, "Connection: close", "", ""]).encode(), 0, 0
    while piece := content[at : at + sizes[turn % len(sizes)]]:
        wire += b"%X;an=extension\r\n%b\r\n" % (len(piece), piece)
        at, turn = at + len(piece), turn + 1
    return wire + b"0\r\n" + trailer + b"\r\n"


async def connect(served: Served, *, receive_buffer: int | None = None) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    return connection


async def receive(connection: socket.socket, size: int = 2**16) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, size), SECONDS)


async def pieces(connection: socket.socket, size: int = 2**16) -> AsyncIterator[bytes]:
    """What comes until the server closes."""
    while piece := await receive(connection, size):
        yield piece


async def exchange(served: Served, *parts: bytes) -> bytes:
    """Send the parts, each when the one before has left; all that comes until the server closes."""
    connection = await connect(served)
    for part in parts:
        await asyncio.get_running_loop().sock_sendall(connection, part)
    got = b"".join([piece async for piece in pieces(connection)])
    connection.close()
    return got


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def json_of(reply: bytes) -> Any:
    return json.loads(reply.partition(b"\r\n\r\n")[2])


def events_of(reply: bytes) -> bytes:
    """The events of a streamed reply, out of HTTP's chunks."""
    head, _, chunks = reply.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head and b"text/event-stream" in head
    told: list[bytes] = []
    while True:
        size, _, rest = chunks.partition(b"\r\n")
        if not int(size, 16):
            return b"".join(told)
        told.append(rest[: int(size, 16)])
        chunks = rest[int(size, 16) + 2 :]


def streamed_text(route: str, reply: bytes) -> str:
    """What a streamed reply says; it is whole."""
    blocks = events_of(reply).decode().removesuffix("\n\n").split("\n\n")
    told = [block.rpartition("data: ")[2] for block in blocks if not block.startswith(":")]
    if route in ("/v1/completions", "/v1/chat/completions"):
        assert told.pop() == "[DONE]"
    said, ends = "", []
    for data in map(json.loads, told):
        match route:
            case "/v1/completions":
                said += data["choices"][0]["text"]
                ends.append(data["choices"][0]["finish_reason"])
            case "/v1/chat/completions":
                said += data["choices"][0]["delta"].get("content", "")
                ends.append(data["choices"][0]["finish_reason"])
            case "/v1/responses":
                said += data["delta"] if data["type"] == "response.output_text.delta" else ""
                ends.append(data["type"] if data["type"] in ("response.completed", "response.incomplete") else None)
            case "/v1/messages":
                said += data["delta"]["text"] if data["type"] == "content_block_delta" else ""
                ends.append(data["type"] if data["type"] == "message_stop" else None)
    assert ends[-1] is not None and ends[:-1] == [None] * (len(ends) - 1)
    return said


def whole_text(route: str, reply: bytes) -> str:
    told = json_of(reply)
    match route:
        case "/v1/completions":
            text = told["choices"][0]["text"]
        case "/v1/chat/completions":
            text = told["choices"][0]["message"]["content"]
        case "/v1/responses":
            text = told["output"][0]["content"][0]["text"]
        case _:
            text = told["content"][0]["text"]
    assert isinstance(text, str) and text
    return text


def error_of(route: str, reply: bytes) -> dict[str, Any]:
    """The error of a refusal, in the shape of the route's API."""
    told = json_of(reply)
    assert set(told) == ({"type", "error"} if route == "/v1/messages" else {"error"})
    error: dict[str, Any] = told["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    return error


async def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not await asyncio.to_thread(is_so):
        assert time.monotonic() < deadline


def num_aborted(served: Served) -> float:
    return served.metrics()["penstock_aborted_requests_total"]


@each_route
async def test_a_slow_reader_gets_the_same(served: Served, route: str) -> None:
    """It takes 500 bytes at a time, through the smallest buffer there is."""
    connection = await connect(served, receive_buffer=1)
    await asyncio.get_running_loop().sock_sendall(connection, request(route, body(route, stream=True)))
    got = b"".join([piece async for piece in pieces(connection, 500)])
    connection.close()
    assert streamed_text(route, got) == whole_text(route, await exchange(served, request(route, body(route))))


async def test_a_reader_that_stops_is_given_up(served: Served) -> None:
    """Its request ends, and those who read are served. What it asks for is 7 MB; the buffers between hold some 2."""
    before = num_aborted(served)
    connection = await connect(served, receive_buffer=1)
    fields = {"stream": True, "n": 64, "max_tokens": 120, "ignore_eos": True, "logprobs": 20, "temperature": 1}
    wire = request("/v1/completions", body("/v1/completions", **fields))
    await asyncio.get_running_loop().sock_sendall(connection, wire)
    assert await receive(connection, 1) == b"H"
    for route in ROUTES:
        assert status_of(await exchange(served, request(route, body(route)))) == 200
    await until(lambda: num_aborted(served) == before + 1)
    connection.close()


@each_route
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_half_closed_socket_is_a_client_that_has_gone(served: Served, route: str, is_stream: bool) -> None:
    """On loopback and behind proxies the two look alike, and what nobody reads must not run on."""
    before = num_aborted(served)
    limit = {"max_output_tokens" if route == "/v1/responses" else "max_tokens": 900}
    wire = request(route, body(route, stream=is_stream, **limit))
    connection = await connect(served)
    await asyncio.get_running_loop().sock_sendall(connection, wire)
    if is_stream:
        assert await receive(connection, 1) == b"H"
    connection.shutdown(socket.SHUT_WR)
    await until(lambda: num_aborted(served) == before + 1)
    connection.close()


@each_route
async def test_a_megabyte_of_prompt(served: Served, route: str) -> None:
    """Refused for its length, by the field's name, while others are served."""
    long = "the wheel turns " * 2**16
    fields: dict[str, Any] = {"prompt": long} if route == "/v1/completions" else {}
    if route == "/v1/responses":
        fields = {"input": long}
    elif not fields:
        fields = {"messages": [{"role": "user", "content": long}]}
    refusal = asyncio.create_task(exchange(served, request(route, body(route, **fields))))
    assert whole_text(route, await exchange(served, request(route, body(route))))
    reply = await refusal
    assert status_of(reply) == 400
    assert error_of(route, reply)["param"] in fields


BAD_TEXT = {
    "no UTF-8": b"\xff",
    "cut short": b"\xc3",
    "overlong": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "an escaped lone surrogate": rb"\ud800",
    "escaped surrogates in the wrong order": rb"\ude42\ud83d",
    "a control character": b"\x01",
}


@each_route
@pytest.mark.parametrize("text", BAD_TEXT.values(), ids=BAD_TEXT)
async def test_what_is_no_text(served: Served, route: str, text: bytes) -> None:
    reply = await exchange(served, request(route, body(route).replace(b" a ", b" a " + text, 1)))
    assert status_of(reply) == 400
    assert error_of(route, reply)["code"] == "invalid_json"


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "invalid_json"),
    "space": (b" \r\n", "invalid_json"),
    "null": (b"null", "invalid_json"),
    "a list": (b"[]", "invalid_json"),
    "a text": (b'"x"', "invalid_json"),
    "cut short": (b'{"model": "demo"', "invalid_json"),
    "two objects": (b"{}{}", "invalid_json"),
    "a comment": (b"{} // x", "invalid_json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "invalid_json"),
    "UTF-16": ('{"model": "demo"}'.encode("utf-16"), "invalid_json"),
    "lists in lists": (b'{"stop": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "invalid_json"),
    "objects in objects": (b'{"a": ' * 10**5 + b"1" + b"}" * 10**5, "invalid_json"),
    "Infinity": (b'{"temperature": Infinity}', "invalid_json"),
    "an exponent too large": (b'{"temperature": 1e999}', "invalid_json"),
    "an integer too large": (b'{"max_tokens": 1' + b"0" * 5000 + b"}", "invalid_json"),
    "a field by no name": (b'{"": 1}', "unknown_parameter"),
    "a field by a long name": (b'{"' + b"x" * 10**5 + b'": 1}', "unknown_parameter"),
    "many fields": (json.dumps({f"field{i}": i for i in range(10**4)}).encode(), "unknown_parameter"),
}


@each_route
@pytest.mark.parametrize(("content", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_what_is_no_body(served: Served, route: str, content: bytes, code: str) -> None:
    reply = await exchange(served, request(route, content))
    assert (status_of(reply), error_of(route, reply)["code"]) == (400, code)


@each_route
async def test_other_kinds_of_content(served: Served, route: str) -> None:
    good = body(route)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "\xff"):
        wire = request(route, good).replace(b"application/json", kind.encode("latin-1"))
        reply = await exchange(served, wire)
        assert (status_of(reply), error_of(route, reply)["code"]) == (400, "invalid_content_type")
    reply = await exchange(served, request(route, gzip.compress(good), "Content-Encoding: gzip"))
    assert (status_of(reply), error_of(route, reply)["code"]) == (400, "invalid_encoding")
    wire = request(route, good).replace(b"application/json", b"Application/JSON ; charset=utf-8")
    assert status_of(await exchange(served, wire)) == 200


@each_route
async def test_a_body_in_odd_pieces(served: Served, route: str) -> None:
    """By chunks of any sizes with extensions and trailers; by single bytes; after an `Expect` that nobody waits for."""
    good = body(route)
    said = whole_text(route, await exchange(served, request(route, good)))
    for sizes, trailer in (([1], b""), ([3, 1, 7], b"X-Sum: 1\r\n"), ([2**16], b"A: b\r\nC: d\r\n")):
        assert whole_text(route, await exchange(served, in_chunks(route, good, sizes, trailer))) == said
    wire = request(route, good)
    assert whole_text(route, await exchange(served, *(wire[i : i + 1] for i in range(len(wire))))) == said
    interim, _, reply = (await exchange(served, request(route, good, "Expect: 100-continue"))).partition(b"\r\n\r\n")
    assert status_of(interim) == 100 and whole_text(route, reply) == said


BAD_FRAMING: dict[str, bytes] = {
    "a length and chunks": request(ROUTES[0], b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "two lengths": request(ROUTES[0], body(ROUTES[0]), "Content-Length: 3"),
    "a negative length": request(ROUTES[0], b"").replace(b"Content-Length: 0", b"Content-Length: -1"),
    "a length with a sign": request(ROUTES[0], b"{}").replace(b"Content-Length: 2", b"Content-Length: +2"),
    "a length beyond all": request(ROUTES[0], b"").replace(b"Content-Length: 0", b"Content-Length: 1" + b"0" * 30),
    "a chunk of no size": in_chunks(ROUTES[0], b"{}", [2]).replace(b"2;an", b"zz;an"),
    "a chunk of negative size": in_chunks(ROUTES[0], b"{}", [2]).replace(b"2;an", b"-2;an"),
    "a chunk beyond all": in_chunks(ROUTES[0], b"{}", [2]).replace(b"2;an", b"fffffffffffffffff;an"),
    "a chunk of another size": in_chunks(ROUTES[0], b"{}", [2]).replace(b"2;an", b"1;an"),
    "a header without a colon": request(ROUTES[0], b"{}", "nonsense"),
    "a space before the colon": request(ROUTES[0], b"{}", "X-A : b"),
    "a folded header": request(ROUTES[0], b"{}", "X-A: b\r\n  c"),
    "a zero byte in a header": request(ROUTES[0], b"{}", "X-A: b\0c"),
    "lines that end otherwise": request(ROUTES[0], b"{}").replace(b"\r\n", b"\n"),
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version to come": b"GET /health HTTP/3.0\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303") + bytes(500),
    "bytes": bytes(range(256)) * 4,
    "an unknown method": b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("wire", BAD_FRAMING.values(), ids=BAD_FRAMING)
async def test_what_is_not_http(served: Served, wire: bytes) -> None:
    reply = await exchange(served, wire)
    assert (status_of(reply), json_of(reply)["error"]["code"]) == (400, "invalid_http")
    assert reply.count(b"HTTP/1.1 ") == 1, "what follows is not taken for another request"


@pytest.mark.parametrize(
    "header", ["X-A: " + "b" * 70_000, "\r\n".join(f"X-{i}: b" for i in range(20_000)), "X" * 70_000 + ": b"]
)
async def test_headers_without_end(served: Served, header: str) -> None:
    """Also one whose end never comes: it was kept as long as it grew."""
    got = await exchange(served, request(ROUTES[0], b"{}", header)[: 2**16 + 100])
    assert (status_of(got), json_of(got)["error"]["code"]) == (431, "invalid_http")


PATHS = {
    "//v1/models": 404,
    "/v1/models/": 404,
    "/v1/../health": 404,
    "/v1/%2e%2e/health": 404,
    "/v1/models%00": 404,
    "/v1/models/demo%2f..": 404,
    "/v1/models/../../../../etc/passwd": 404,
    "/v1/models/%F0%9F": 404,
    "/%ff%fe": 404,
    "/v1;a=b/models": 404,
    "/V1/models": 404,
    "*": 404,
    "/": 404,
    "/v1/completions": 405,
    "/v1/responses/..%2f..%2fetc": 404,
    "/v1/%6dodels": 200,
    "/v1/models?x=%ff&x": 200,
    "http://elsewhere.example/v1/models": 200,
}


@pytest.mark.parametrize(("path", "status"), PATHS.items())
async def test_paths(served: Served, path: str, status: int) -> None:
    reply = await exchange(served, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status_of(reply) == status
    told = json_of(reply)
    assert set(told) == {"error"} if status != 200 else [model["id"] for model in told["data"]] == ["demo"]


@each_route
async def test_methods(served: Served, route: str) -> None:
    """HEAD has no body, whatever it is the head of: what follows would be taken for the next answer."""
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        wire = f"{method} {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        reply = await exchange(served, wire)
        assert status_of(reply) == 405 and b"\r\nallow: POST\r\n" in reply.lower().replace(b"post", b"POST")
        assert method != "HEAD" or reply.endswith(b"\r\n\r\n")


async def test_strange_headers_are_nobodys_business(served: Served) -> None:
    headers = (
        "X-Request-Id: \xff\xfe",
        "Authorization: Bearer \xe9",
        "X-Api-Key: \xff",
        "Accept: \x80",
        "Cookie: =;=;",
    )
    reply = await exchange(served, request(ROUTES[0], body(ROUTES[0]), *headers, *("X-A: b" for _ in range(2000))))
    assert status_of(reply) == 200 and b"\r\nx-request-id: req-" in reply


async def test_all_routes_in_one_pipeline(served: Served) -> None:
    """Also cut anywhere, and with refusals among them."""
    kinds = ["text_completion", "chat.completion", "response", "message"]
    bodies = [body(route) for route in ROUTES]
    wire = b"".join(
        request(route, content, close=False) + request(route, b"{", close=False)
        for route, content in zip(ROUTES, bodies, strict=True)
    ) + request(ROUTES[0], bodies[0])
    for size in (len(wire), 101):
        got = await exchange(served, *(wire[i : i + size] for i in range(0, len(wire), size)))
        told = []
        while got:
            head, _, rest = got.partition(b"\r\n\r\n")
            length = next(
                int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")
            )
            reply = json.loads(rest[:length])
            told.append(reply.get("object", reply.get("type")))
            got = rest[length:]
        assert told == [kinds[0], None, kinds[1], None, kinds[2], None, kinds[3], "error", kinds[0]]


async def test_256_streams_at_once(served: Served) -> None:
    """A quarter of them on each route: each is whole, and says what it says to one who is alone."""
    said = {route: whole_text(route, await exchange(served, request(route, body(route)))) for route in ROUTES}

    async def stream(route: str) -> None:
        reply = await exchange(served, request(route, body(route, stream=True)))
        assert streamed_text(route, reply) == said[route]

    await asyncio.gather(*(stream(ROUTES[i % len(ROUTES)]) for i in range(256)))
    await until(lambda: served.metrics()["penstock_engine_requests_running"] == 0)
