"""`Observe`: counts every response by route and status, and logs a line for it."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock_server.answers import Answers
from penstock_server.metrics import Metrics

log = logging.getLogger("penstock.requests")


class Observe:
    """Sees each message go by and changes none."""

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

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.response_begun()
        try:
            await self._app(scope, receive, watched_send)
        finally:
            # The path is the caller's; only a route's own pattern is bounded enough for a label.
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.response_done(route, status)
            if log.isEnabledFor(self._log_level):
                self._log(scope, route, status, time.monotonic() - began)

    def _log(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        answers = scope.get("state", {}).get("answers")
        told = ""
        if isinstance(answers, Answers):
            plan, num_generated = answers.plan, answers.num_generated_tokens
            told = f" {plan.id} prompt={plan.num_prompt_tokens} generated={num_generated} seed={plan.seed}"
        log.log(self._log_level, "%s %s %d %.1f ms%s", scope["method"], route, status, seconds * 1000, told)
