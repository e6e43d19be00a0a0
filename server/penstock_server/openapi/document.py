"""`make_document`: what a server takes and gives, in the words of OpenAPI 3.1.

It tells of the routes that the application has, and of all of them; a test holds the two together.
"""

from typing import Any

from penstock_server.context import ServerContext
from penstock_server.middleware.observe import PROCESSING_TIME, REQUEST_ID
from penstock_server.openapi.anthropic import messages_schemas
from penstock_server.openapi.bodies import body_schemas
from penstock_server.openapi.decoding import schemas
from penstock_server.openapi.examples import examples
from penstock_server.openapi.operations import OPERATIONS, STATUSES, Operation
from penstock_server.openapi.replies import reply_schemas
from penstock_server.openapi.responses import responses_schemas
from penstock_server.openapi.shapes import Schema, ref
from penstock_server.version import VERSION

_ABOUT = """An inference server for decoder-only language models: any decoding strategy, one batch.

A field is honoured, or refused with a 400 that names it; none is dropped. `null` means that a field was not given."""


def make_document(context: ServerContext) -> dict[str, Any]:
    """The document of a server with this context."""
    needs_key = bool(context.keys)
    paths: dict[str, dict[str, Any]] = {}
    shown = examples(context)
    for operation in OPERATIONS:
        told = _operation(operation, shown.get(operation.path, {}), needs_key=needs_key)
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    components = reply_schemas() | body_schemas(context) | messages_schemas(context) | responses_schemas(context)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": VERSION, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": dict(sorted((components | schemas(context.catalogue, context.config.max_n)).items())),
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }
    return document | ({"security": [{"bearer": []}, {"x-api-key": []}]} if needs_key else {})


_HEADERS: dict[str, Any] = {
    REQUEST_ID: {"description": "the request's own id, or a new one", "schema": {"type": "string"}, "required": True},
    PROCESSING_TIME: {
        "description": "milliseconds to the first byte",
        "schema": {"type": "integer", "minimum": 0},
        "required": True,
    },
    "retry-after": {"description": "seconds after which to come again", "schema": {"type": "integer", "minimum": 0}},
}


def _operation(operation: Operation, shown: dict[str, Any], *, needs_key: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    if operation.description:
        told["description"] = operation.description
    if operation.parameters:
        told["parameters"] = list(operation.parameters)
    if operation.body is not None:
        content: dict[str, Any] = {"schema": ref(operation.body)}
        if shown:
            content["examples"] = {
                name.replace(" ", "-"): {"summary": name, "value": body} for name, body in shown.items()
            }
        told["requestBody"] = {"required": True, "content": {"application/json": content}}
    told["responses"] = {"200": _reply(operation)}
    for status in operation.statuses:
        if status != 401 or needs_key:
            told["responses"][str(status)] = _error(status, operation.error)
    if operation.is_open and needs_key:
        told["security"] = []
    return told


def _reply(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.reply is not None:
        content["application/json"] = {"schema": ref(operation.reply)}
    if operation.text is not None:
        content[operation.text] = {"schema": {"type": "string"}}
    if operation.chunk is not None:
        content["text/event-stream"] = {"schema": _events(operation)}
    return {"description": operation.gives, "headers": _headers(), "content": content}


def _events(operation: Operation) -> Schema:
    """Of one server-sent event, as it is once it was parsed."""
    kinds = [_event(ref(str(operation.chunk)))]
    if operation.mark is not None:
        kinds += [_event(ref("DecodingEvent"), "penstock.decoding"), _event(ref(operation.error), "error")]
        kinds.append({"type": "object", "properties": {"data": {"const": operation.mark}}, "required": ["data"]})
    return {"anyOf": kinds}


def _event(data: Schema, kind: str | None = None) -> Schema:
    """An event whose data is the text of an object."""
    told = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    if kind is None:
        return {"type": "object", "properties": {"data": told}, "required": ["data"]}
    return {"type": "object", "properties": {"event": {"const": kind}, "data": told}, "required": ["event", "data"]}


def _error(status: int, schema: str) -> dict[str, Any]:
    headers = _headers() | ({"retry-after": _header("retry-after")} if status == 429 else {})
    return {
        "description": STATUSES[status],
        "headers": headers,
        "content": {"application/json": {"schema": ref(schema)}},
    }


def _headers() -> dict[str, Schema]:
    return {name: _header(name) for name in (REQUEST_ID, PROCESSING_TIME)}


def _header(name: str) -> Schema:
    return {"$ref": f"#/components/headers/{name}"}
