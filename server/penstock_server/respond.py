"""From a plan to its response, streamed or whole. The client's going away ends the request in the engine, at once."""

import asyncio
import logging
from collections.abc import AsyncIterator

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock_engine.errors import EngineError, RequestRefused
from penstock_server.answers import Answers, Choice
from penstock_server.context import ServerContext
from penstock_server.errors import as_api_error
from penstock_server.plan import Plan
from penstock_server.replies.decoding_events import DecodingEvents
from penstock_server.replies.layout import Layout, usage_of

log = logging.getLogger("penstock.server")

# nginx's code for a request whose client has gone; nobody reads it but the log and the metrics.
CLIENT_CLOSED_REQUEST = 499


async def respond(request: Request, plan: Plan, layout: Layout, context: ServerContext) -> Response:
    """Generate what the plan asks for.

    Raises:
        RequestRefused, QueueFull, EngineUnavailable, RequestFailed: before the first byte.
    """
    try:
        answers = await Answers.submit(plan, context.client, context.model, context.metrics)
    except RequestRefused as refused:
        # The engine knows a step of the chain, but not where the body asks for it.
        step = refused.param.partition(".")[0]
        raise RequestRefused(plan.step_params.get(step, refused.param), refused.message) from None
    request.state.answers = answers
    if plan.is_stream:
        return AnswerStream(answers, layout, context)
    try:
        choices = await _unless_gone(request, answers)
    finally:
        answers.abort()
    if choices is None:
        context.metrics.request_aborted()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(layout.whole(choices, usage_of(answers)), media_type="application/json")


async def _unless_gone(request: Request, answers: Answers) -> list[Choice] | None:
    """All choices, or None as soon as the client has gone."""
    collect = asyncio.create_task(answers.collect())
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({collect, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await collect if collect.done() else None
    finally:
        collect.cancel()
        gone.cancel()
        await asyncio.gather(collect, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class AnswerStream(Response):
    """The answers as server-sent events. However it ends, also before its first byte, nothing is left running."""

    def __init__(self, answers: Answers, layout: Layout, context: ServerContext) -> None:
        super().__init__(media_type="text/event-stream")
        self._answers = answers
        self._metrics = context.metrics
        self._events = EventSourceResponse(
            _events(answers, layout, _decoding_events(answers.plan, context)),
            ping=context.config.ping_interval,
            ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
            sep="\n",
            send_timeout=context.config.send_timeout or None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._events(scope, receive, send)
        except SendTimeoutError:
            log.info("%s: the client stopped reading; its request is aborted", self._answers.plan.id)
        finally:
            if self._answers.abort():
                self._metrics.request_aborted()


def _decoding_events(plan: Plan, context: ServerContext) -> DecodingEvents | None:
    return DecodingEvents(plan, context.model.codec.tokenizer) if plan.is_watched else None


async def _events(answers: Answers, layout: Layout, watching: DecodingEvents | None) -> AsyncIterator[bytes]:
    """One bytes object per engine step, and what the API has before and after them."""
    begin = layout.begin(usage_of(answers))
    if begin:
        yield _one_line_each(begin)
    try:
        async for progress in answers:
            chunks = layout.chunks(progress.deltas)
            if watching is not None and progress.watched is not None:
                chunks += watching.event(progress.watched)
            yield _one_line_each(chunks)
    except Exception as error:  # the status has been sent: the stream itself has to tell
        answers.abort()
        if not isinstance(error, EngineError):
            log.exception("%s failed", answers.plan.id)
        yield _one_line_each(layout.fault(as_api_error(error)))
        return
    yield _one_line_each(layout.end(usage_of(answers)))


def _one_line_each(events: bytes) -> bytes:
    """The events, with what some clients take for the end of a line (U+0085, U+2028, U+2029: Python's `splitlines`,
    and so httpx's `iter_lines`) written as JSON's escapes. It stands in JSON strings only."""
    if events.isascii():
        return events
    return (
        events.replace(b"\xc2\x85", b"\\u0085")
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
    )
