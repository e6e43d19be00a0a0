"""`AnswerHead`: HEAD is answered as GET would be, without the body, as HTTP has it (RFC 9110, 9.3.2).

Monitors and load balancers ask for a server's health so.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AnswerHead:
    """The routes know GET alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)
