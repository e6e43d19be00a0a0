"""`Observe`: gives every request its id, and tells what became of it: to the metrics, to the log, to the client."""

import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock_server.answers import Answers
from penstock_server.metrics import Metrics

log = logging.getLogger("penstock.requests")

REQUEST_ID = "x-request-id"
"""The client's own id of a request, if it sent one that can stand in a log; else one of ours. In every reply."""

PROCESSING_TIME = "openai-processing-ms"
"""Milliseconds from the request to the first byte of its reply."""

_FIT_FOR_A_LOG = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Observe:
    """Sees each message go by; adds the two headers and changes nothing else."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log_level: int) -> None:
        self._app = app
        self._metrics = metrics
        self._log_level = log_level

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 500  # what an exception that passes here becomes
        request_id = _request_id(scope)

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                took = f"{(time.monotonic() - began) * 1000:.0f}"
                own = [(REQUEST_ID.encode(), request_id), (PROCESSING_TIME.encode(), took.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        self._metrics.response_begun()
        try:
            await self._app(scope, receive, watched_send)
        finally:
            # The path is the caller's; only a route's own pattern is bounded enough for a label.
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.response_done(route, status)
            if log.isEnabledFor(self._log_level):
                self._log(scope, request_id.decode(), route, status, time.monotonic() - began)

    def _log(self, scope: Scope, request_id: str, route: str, status: int, seconds: float) -> None:
        answers = scope.get("state", {}).get("answers")
        told = ""
        if isinstance(answers, Answers):
            plan, num_generated = answers.plan, answers.num_generated_tokens
            told = f" {plan.id} prompt={plan.num_prompt_tokens} generated={num_generated} seed={plan.seed}"
        message = "%s %s %d %.1f ms %s%s"
        log.log(self._log_level, message, scope["method"], route, status, seconds * 1000, request_id, told)


def _request_id(scope: Scope) -> bytes:
    given: bytes = next((value for name, value in scope["headers"] if name == REQUEST_ID.encode()), b"")
    return given if _FIT_FOR_A_LOG.fullmatch(given) else f"req-{uuid.uuid4().hex}".encode()
