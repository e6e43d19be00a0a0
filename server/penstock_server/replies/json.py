"""Any value as an HTTP response, and what replies of every kind may tell beside what was asked for."""

from collections.abc import Mapping, Sequence

import orjson
from starlette.responses import Response


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with this body."""
    return Response(orjson.dumps(value), status, headers, "application/json")


def warnings_field(warnings: Sequence[str]) -> dict[str, Sequence[str]]:
    """The field of a reply that tells what a lenient server passed over, if it did."""
    return {"warnings": warnings} if warnings else {}
