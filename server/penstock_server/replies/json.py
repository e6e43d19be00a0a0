"""`json_response`: any value as an HTTP response."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")
