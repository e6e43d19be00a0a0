"""`GET /openapi.json` and `GET /docs`: what this server takes and gives, as a document and as a page.

Both are made when first asked for, and kept.
"""

import asyncio
import functools
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from penstock_server.context import ServerContext
from penstock_server.openapi.document import make_document
from penstock_server.openapi.page import render_page
from penstock_server.replies.json import json_response

# Nothing that the page does not have in it is loaded or run.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def docs_router(context: ServerContext) -> APIRouter:
    router = APIRouter()

    @functools.cache
    def document() -> dict[str, Any]:
        return make_document(context)

    @functools.cache
    def page() -> bytes:
        return render_page(document()).encode()

    @router.get("/openapi.json")
    async def openapi() -> Response:
        return json_response(await asyncio.to_thread(document))

    @router.get("/docs")
    async def docs() -> Response:
        headers = {"Content-Security-Policy": POLICY}
        return Response(await asyncio.to_thread(page), media_type="text/html", headers=headers)

    return router
