"""`Target`: the server that is measured, and the questions that are asked of it before a load runs.

Nothing here is timed.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from load.errors import FlagError, NotReady

ENDPOINTS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
_MESSAGE_LENGTH = 300
_RETRY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI-compatible server, one of its models and one of its two endpoints. `base` ends before `/v1`."""

    base: str
    endpoint: str
    model: str = ""
    api_key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return self.base + ENDPOINTS[self.endpoint]

    @property
    def is_chat(self) -> bool:
        return self.endpoint == "chat"

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: its status and its JSON, or the text of what is none."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        return error_message(self.body)


def read_base(url: str) -> str:
    """The root of a server from its URL with or without `/v1`.

    Raises:
        FlagError: it is no http(s) URL.
    """
    given = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(given)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment:
        raise FlagError("--url", f"{url!r} is not the URL of a server, like http://localhost:8000")
    return given.rstrip("/").removesuffix("/v1").rstrip("/")


def error_message(body: object) -> str:
    """The message of an error's body in one short line, whatever shape it has."""
    found: object = body
    if isinstance(body, Mapping):
        found = body.get("error", body.get("message", body.get("detail", body)))
        if isinstance(found, Mapping):
            found = found.get("message", found)
    text = " ".join((found if isinstance(found, str) else repr(found)).split())
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "..."


def read_body(raw: bytes) -> Any:
    """A body's JSON, or its beginning as text where it is none."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw[: 4 * _MESSAGE_LENGTH].decode(errors="replace")


async def ask(session: aiohttp.ClientSession, target: Target, fields: Mapping[str, Any]) -> Reply:
    """POST a request that is not streamed and not measured."""
    async with session.post(target.url, data=orjson.dumps(dict(fields)), headers=target.headers) as response:
        return Reply(response.status, read_body(await response.read()))


async def list_models(session: aiohttp.ClientSession, target: Target, wait: float) -> list[dict[str, Any]]:
    """What `/v1/models` lists, waiting up to `wait` seconds for the server to come up. Empty without that route.

    Raises:
        NotReady: nobody answers, or the answer is no list of models.
    """
    url = f"{target.base}/v1/models"
    deadline = time.perf_counter() + wait
    while True:
        try:
            async with session.get(url, headers=target.headers) as response:
                status, body = response.status, read_body(await response.read())
            if status not in (502, 503):
                break
            problem = f"it answers {status}: {error_message(body)}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        if time.perf_counter() >= deadline:
            raise NotReady(f"no server is ready at {target.base} (--url): {problem}")
        await asyncio.sleep(_RETRY_SECONDS)
    if status in (401, 403):
        raise NotReady(f"{url} answers {status}: {error_message(body)}; give --api-key or PENSTOCK_API_KEY")
    if status == 404:
        return []
    models = body.get("data") if isinstance(body, dict) else None
    if status != 200 or not isinstance(models, list):
        raise NotReady(f"{url} answers {status} and no list of models: {error_message(body)}; is --url right?")
    return [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]


def choose_model(models: list[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    """The model to measure: the wanted one, or the first.

    A model that is not listed is taken as it is: gateways do not list all that they serve, and the first request
    will tell.

    Raises:
        NotReady: none is listed and none was named.
    """
    if wanted is None and not models:
        raise NotReady("the server lists no model; name one with --model")
    return next((model for model in models if wanted in (None, model["id"])), {"id": wanted})
