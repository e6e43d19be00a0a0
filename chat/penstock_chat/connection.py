"""`Connection`: the HTTP side. Bodies out, chunks in; what goes wrong becomes one of `ServerError`'s kinds.

Knows nothing of conversations. A stream that its reader leaves is closed at once, which is how a server is told that
nobody waits for the rest.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from penstock_chat.chunks import Chunk, read_chunk
from penstock_chat.endpoint import Endpoint
from penstock_chat.errors import Broken, Refused, Unreachable
from penstock_chat.refusal import MAX_ERROR_BYTES, read_bounded, refusal_of

CONNECT_SECONDS = 5.0
LIST_SECONDS = 10.0
# A server may compute a long prompt for minutes and say nothing; Penstock pings meanwhile, others do not.
DEFAULT_SILENCE_SECONDS = 300.0

_MAX_BODY_BYTES = 16 << 20  # of what comes in one piece


class Connection:
    """One server. Connections are kept open between requests.

    Args:
        silence_seconds: a reply is given up when nothing came for so long, not even a ping.
        transport: answers in place of the network, in tests.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        silence_seconds: float = DEFAULT_SILENCE_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._counts_tokens = True
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
            timeout=httpx2.Timeout(silence_seconds, connect=CONNECT_SECONDS),
            transport=transport,
            trust_env=not endpoint.is_local,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def models(self) -> tuple[str, ...]:
        """The names that the server lists.

        Raises:
            ServerError
        """
        with_timeout = httpx2.Timeout(LIST_SECONDS, connect=CONNECT_SECONDS)
        async with self._failures(), self._client.stream("GET", self._url("models"), timeout=with_timeout) as response:
            await self._check(response)
            value = await self._read_json(response)
        listed = value.get("data") if isinstance(value, dict) else None
        if not isinstance(listed, list):
            raise Broken(f"{self.endpoint.shown_url}/models does not answer with a list of models; is --url right?")
        return tuple(model["id"] for model in listed if isinstance(model, dict) and isinstance(model.get("id"), str))

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The reply to `body`, piece by piece; returns when the server said that it is complete.

        Raises:
            ServerError
        """
        async with self._failures(), self._answer(body) as response:
            if _content_type(response) == "application/json":  # a server that does not stream
                yield read_chunk(json.dumps(await self._read_json(response)))
                return
            if _content_type(response) != "text/event-stream":
                kind = _content_type(response) or "something without a type"
                raise Broken(f"{self.endpoint.shown_url} answers with {kind}, not with a stream; is --url right?")
            has_finished = False
            async for event in httpx2.EventSource(response):
                if event.data.strip() == "[DONE]":
                    return
                if event.event == "error":
                    raise _error_event(event.data)
                if not event.data.strip():
                    continue
                chunk = read_chunk(event.data)
                has_finished = has_finished or chunk.finish_reason is not None
                yield chunk
            if not has_finished:
                raise Broken("the stream ended before the reply did")

    @asynccontextmanager
    async def _answer(self, body: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        """The response to a streamed request, asked again without token counts by a server that knows none."""
        if self._counts_tokens:
            counting = {**body, "stream": True, "stream_options": {"include_usage": True}}
            async with self._post(counting) as response:
                error = await refusal_of(response, self.endpoint)
                if error is None:
                    yield response
                    return
            if error.status not in (400, 422) or "stream_options" not in f"{error.param} {error.message}":
                raise error
            self._counts_tokens = False
        async with self._post({**body, "stream": True}) as response:
            await self._check(response)
            yield response

    @asynccontextmanager
    async def _post(self, body: Mapping[str, Any]) -> AsyncIterator[httpx2.Response]:
        # ASCII, in which JSON can carry even what UTF-8 cannot, such as half a pair of surrogates in a setting.
        content = json.dumps(body).encode("ascii")
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        url = self._url("chat/completions")
        async with self._client.stream("POST", url, content=content, headers=headers) as response:
            yield response

    async def _check(self, response: httpx2.Response) -> None:
        error = await refusal_of(response, self.endpoint)
        if error is not None:
            raise error

    async def _read_json(self, response: httpx2.Response) -> Any:
        raw = await read_bounded(response, _MAX_BODY_BYTES)
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise Broken(
                f"{self.endpoint.shown_url} answers with something that is not JSON; is --url right?"
            ) from None

    def _url(self, path: str) -> str:
        return f"{self.endpoint.url}/{path}"

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        """The HTTP library's errors as ours."""
        where = self.endpoint.shown_url
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = "no answer" if isinstance(error, httpx2.ConnectTimeout) else str(error) or "no connection"
            raise Unreachable(
                f"no server at {where} ({reason}); start one with `penstock serve demo`, or name one with --url"
            ) from None
        except httpx2.TimeoutException:
            raise Broken(f"{where} stopped answering; --timeout sets how long to wait") from None
        except httpx2.RemoteProtocolError as error:
            raise Broken(f"the connection to {where} broke: {error}") from None
        except (httpx2.TransportError, httpx2.DecodingError, httpx2.InvalidURL) as error:
            raise Broken(f"{where}: {str(error) or type(error).__name__}") from None


def _content_type(response: httpx2.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _error_event(data: str) -> Broken | Refused:
    """The error in an SSE event of that kind, whatever shape its data has."""
    try:
        read_chunk(data)
    except Broken as error:
        if data.strip().startswith("{"):
            return error
    return Broken(f"the server reported an error: {data[:MAX_ERROR_BYTES]}")
