"""From a plan to its response, streamed or whole. The client's going away ends the request in the engine, at once."""

import asyncio
import functools
import logging

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock_engine.errors import EngineError, RequestRefused
from penstock_server.answers import Answers, Progress
from penstock_server.context import ServerContext
from penstock_server.errors import as_api_error
from penstock_server.event_stream import EventStream
from penstock_server.gone import CLIENT_CLOSED_REQUEST, unless_gone
from penstock_server.plan import Plan
from penstock_server.replies.decoding_events import DecodingEvents
from penstock_server.replies.layout import Layout, usage_of

log = logging.getLogger("penstock.server")

# What is told of a prompt's token, and of 20 others at its place, takes some 30 us to write: more than these, and no
# stream would move for 10 ms.
_MANY_TOKENS = 300


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
        choices = await unless_gone(request, answers.collect())
    finally:
        answers.abort()
    if choices is None:
        context.metrics.request_aborted()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    whole = functools.partial(layout.whole, choices, usage_of(answers))
    is_long = plan.requests[0].reading is not None and plan.num_prompt_tokens * plan.num_choices > _MANY_TOKENS
    raw = await asyncio.to_thread(whole) if is_long else whole()
    return Response(raw, media_type="application/json")


class AnswerStream(Response):
    """The answers as server-sent events. However it ends, also before its first byte, nothing is left running."""

    def __init__(self, answers: Answers, layout: Layout, context: ServerContext) -> None:
        super().__init__(media_type="text/event-stream")
        self._answers = answers
        self._layout = layout
        self._watching = _decoding_events(answers.plan, context)
        self._metrics = context.metrics
        self._events = EventStream(self._begin, ping_interval=context.config.ping_interval)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._events(scope, receive, send)
        finally:
            if self._answers.abort():
                self._metrics.request_aborted()

    def _begin(self) -> None:
        begin = self._layout.begin(usage_of(self._answers))
        if begin:
            self._events.push(_one_line_each(begin))
        self._answers.deliver_to(self._tell, self._end)

    def _tell(self, progress: Progress) -> None:
        """One push per engine step and prompt."""
        if self._answers.plan.counts_each_chunk:
            self._layout.count(usage_of(self._answers))
        events = self._layout.chunks(progress.deltas)
        if self._watching is not None and progress.watched is not None:
            events += self._watching.event(progress.watched)
        self._events.push(_one_line_each(events))

    def _end(self, fault: Exception | None) -> None:
        try:
            self._events.push(_one_line_each(self._last_events(fault)))
        except Exception:
            log.exception("%s: what ends it could not be written", self._answers.plan.id)
        finally:
            self._events.end()

    def _last_events(self, fault: Exception | None) -> bytes:
        if fault is None:
            return self._layout.end(usage_of(self._answers))
        # The status has been sent: the stream itself has to tell.
        self._answers.abort()
        if not isinstance(fault, EngineError):
            log.error("%s failed", self._answers.plan.id, exc_info=fault)
        return self._layout.fault(as_api_error(fault))


def _decoding_events(plan: Plan, context: ServerContext) -> DecodingEvents | None:
    return DecodingEvents(plan, context.model.codec.tokenizer) if plan.is_watched else None


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
