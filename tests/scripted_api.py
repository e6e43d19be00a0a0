"""An OpenAI-compatible API on loopback whose replies are written beforehand: for what a real model would not say."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What a reply does: gets the body of the request, and a function that writes bytes to the client.
Reply = Callable[[dict[str, Any], Callable[[bytes], None]], None]

MODEL = "scripted"


def chunk(text: str | None = None, finish_reason: str | None = None, **fields: object) -> bytes:
    """One event of a streamed reply."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(json.dumps({"object": "chat.completion.chunk", "choices": [choice], **fields}))


def event(data: str, kind: str = "") -> bytes:
    return (f"event: {kind}\n" if kind else "").encode() + f"data: {data}\n\n".encode()


DONE = event("[DONE]")


def saying(*pieces: str) -> Reply:
    """A reply of these pieces, complete."""

    def reply(body: dict[str, Any], write: Callable[[bytes], None]) -> None:
        for piece in pieces:
            write(chunk(piece))
        write(chunk(finish_reason="stop") + DONE)

    return reply


class ScriptedApi:
    """`reply` answers the next requests; `bodies` and `headers` are those of the requests that came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reply: Reply = saying("Hello.")
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []


@contextlib.contextmanager
def scripted_api() -> Iterator[ScriptedApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode()
            self._begin("application/json")
            self.wfile.write(raw)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.bodies.append(body)
            api.headers.append(dict(self.headers.items()))
            self._begin("text/event-stream")
            # A client that went away is what some tests are about.
            with contextlib.suppress(ConnectionError):
                api.reply(body, self._write)

        def log_message(self, format: str, *args: object) -> None:
            """Not on the tests' output."""

        def _begin(self, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()

        def _write(self, raw: bytes) -> None:
            self.wfile.write(raw)
            self.wfile.flush()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api = ScriptedApi(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
