"""A server without a model: it streams made-up tokens at a fixed pace, as many as were asked for.

Of its schedule every figure is known beforehand, so it is the oracle of a benchmark's own figures, and a steady
ground on a noisy machine. It has OpenAI's two routes and `/v1/models`, streamed with usage, or whole.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from tokenizers import Tokenizer

MODEL = "steady"
DEFAULT_NUM_TOKENS = 16

# From a token's text to what its choice holds.
_Choice = Callable[[str], dict[str, Any]]


def num_words(text: str) -> int:
    """A text's length where every word is a token."""
    return len(text.split())


@dataclass(frozen=True, slots=True)
class Served:
    """One streamed request: its prompt or messages, when it had come in, and when each token was written.

    Times are of `time.perf_counter`.
    """

    content: Any
    received: float
    token_times: tuple[float, ...]


@dataclass(slots=True)
class SteadyServer:
    """The first token `first_token` seconds after the request, each further one `per_token` seconds later.

    A prompt of ids has as many tokens; `count_tokens` says how many a text has.
    """

    first_token: float
    per_token: float
    sends_usage: bool = True
    count_tokens: Callable[[str], int] = num_words
    served: list[Served] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "root": MODEL, "object": "model"}]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        fields = orjson.loads(await request.read())
        prompt = fields["prompt"]
        num_prompt_tokens = self.count_tokens(prompt) if isinstance(prompt, str) else len(prompt)
        return await self._answer(request, fields, num_prompt_tokens, lambda text: {"text": text})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        fields = orjson.loads(await request.read())
        num_prompt_tokens = sum(self.count_tokens(str(message.get("content", ""))) for message in fields["messages"])
        return await self._answer(request, fields, num_prompt_tokens, lambda text: {"delta": {"content": text}})

    async def _answer(
        self,
        request: web.Request,
        fields: Mapping[str, Any],
        num_prompt_tokens: int,
        choice: Callable[[str], dict[str, Any]],
    ) -> web.StreamResponse:
        received = time.perf_counter()
        num_tokens = fields.get("max_completion_tokens", fields.get("max_tokens", DEFAULT_NUM_TOKENS))
        usage = {"prompt_tokens": num_prompt_tokens, "completion_tokens": num_tokens}
        if not fields.get("stream"):
            return web.json_response({"choices": [choice(" word" * num_tokens)], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = _event({"model": MODEL, "choices": [{"index": 0, **choice(" word"), "finish_reason": None}]})
        times = []
        for number in range(num_tokens):
            due = received + self.first_token + number * self.per_token
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            times.append(time.perf_counter())
            await response.write(chunk)
        self.served.append(Served(fields.get("prompt", fields.get("messages")), received, tuple(times)))
        end = _event({"model": MODEL, "choices": [], "usage": usage}) if self.sends_usage else b""
        await response.write(end + b"data: [DONE]\n\n")
        return response


def _event(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(dict(fields)) + b"\n\n"


async def _serve(server: SteadyServer, port: int) -> None:
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(f"Listening on http://127.0.0.1:{runner.addresses[0][1]}", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


def _counter(tokenizer: str | None) -> Callable[[str], int]:
    if tokenizer is None:
        return num_words
    loaded = Tokenizer.from_file(tokenizer)
    return lambda text: len(loaded.encode(text))


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve made-up tokens at a fixed pace.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--first-token", type=float, default=50.0, help="milliseconds (default: 50)")
    parser.add_argument("--per-token", type=float, default=5.0, help="milliseconds (default: 5)")
    parser.add_argument("--tokenizer", help="a tokenizer.json that counts the tokens of texts (default: words)")
    arguments = parser.parse_args()
    server = SteadyServer(
        arguments.first_token / 1e3, arguments.per_token / 1e3, count_tokens=_counter(arguments.tokenizer)
    )
    asyncio.run(_serve(server, arguments.port))


if __name__ == "__main__":
    main()
