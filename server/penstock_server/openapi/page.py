"""`render_page`: the document as one page of HTML, which loads nothing from anywhere."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock_server.openapi.page_style import SCRIPT, STYLE
from penstock_server.openapi.shapes import Schema

_PREFIX = "#/components/schemas/"
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minLength": "characters from",
    "maxLength": "characters up to",
    "minItems": "items from",
    "maxItems": "items up to",
}


def render_page(document: Mapping[str, Any]) -> str:
    """The page: every route with its fields, replies and examples, then every schema that these name."""
    title = html.escape(document["info"]["title"])
    routes = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    contents = "".join(
        f'<li><a href="#{operation["operationId"]}"><b>{method}</b> {html.escape(path)}</a></li>'
        for method, path, operation in routes
    )
    schemas = document["components"]["schemas"]
    parts = [
        f"<h1>{title} <small>{html.escape(document['info']['version'])}</small></h1>",
        *(f"<p>{_text(each)}</p>" for each in document["info"]["description"].split("\n\n")),
        '<p>As a document of OpenAPI 3.1: <a href="openapi.json">openapi.json</a>.</p>',
        "<p>Every route but <code>/health</code> and <code>/ready</code> asks for the key: "
        "<code>Authorization: Bearer KEY</code> or <code>x-api-key: KEY</code>.</p>"
        if document.get("security")
        else "<p>This server asks for no key.</p>",
        *(_route(method, path, operation, schemas) for method, path, operation in routes),
        "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in schemas.items()),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><nav><ul>{contents}</ul></nav><main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>"
    )


def _route(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Schema]) -> str:
    parts = [
        f'<section id="{operation["operationId"]}"><h2><b>{method}</b> <code>{html.escape(path)}</code></h2>',
        f"<p>{_text(operation['summary'])}</p>",
    ]
    if "parameters" in operation:
        rows = [
            (each["name"], each["schema"], each.get("required"), each["description"])
            for each in operation["parameters"]
        ]
        parts.append(_table(rows))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        name = body["schema"]["$ref"].removeprefix(_PREFIX)
        parts += [f"<h3>Fields</h3>{_fields(schemas[name])}"]
        shown = body.get("examples", {}).values()
        parts += [_example(path, each["summary"], each["value"]) for each in shown]
    parts.append("<h3>Replies</h3><ul>")
    for status, reply in operation["responses"].items():
        named = [name for media in reply["content"].values() for name in _named(media["schema"])]
        links = ", in events ".join(_link(name) for name in named)
        parts.append(f"<li><b>{status}</b> {_text(reply['description'])}{': ' if links else ''}{links}</li>")
    return "".join([*parts, "</ul></section>"])


def _named(schema: Schema) -> Iterator[str]:
    """The schemas that a reply, or the data of its events, has names for."""
    for each in schema.get("anyOf", [schema]):
        named = each.get("properties", {}).get("data", {}).get("contentSchema", each)
        if "$ref" in named:
            yield named["$ref"]


def _example(path: str, summary: str, body: Mapping[str, Any]) -> str:
    data = json.dumps(body, indent=2).replace("'", "'\\''")
    streams = "-N " if body.get("stream") else ""
    command = f"curl -s {streams}ORIGIN{path} -H 'Content-Type: application/json' -d '{data}'"
    shown = html.escape(command).replace("ORIGIN", '<span class="origin">http://localhost:8000</span>', 1)
    return f"<details><summary>{_text(summary)}</summary><button>copy</button><pre>{shown}</pre></details>"


def _schema(name: str, schema: Schema) -> str:
    described = f"<p>{_text(schema['description'])}</p>" if "description" in schema else ""
    fields = _fields(schema) if "properties" in schema else f"<p>{_type(schema)}</p>"
    return f'<section id="{name}"><h3>{name}</h3>{described}{fields}</section>'


def _fields(schema: Schema) -> str:
    required = schema.get("required", ())
    return _table(
        [(name, each, name in required, each.get("description", "")) for name, each in schema["properties"].items()]
    )


def _table(rows: list[tuple[str, Schema, Any, str]]) -> str:
    lines = []
    for name, schema, required, meaning in rows:
        default = json.dumps(schema["default"]) if "default" in schema else ""
        told = "required" if required else html.escape(default)
        lines.append(
            f"<tr><td><code>{html.escape(name)}</code></td><td>{_type(schema)}</td><td>{told}</td>"
            f"<td>{_text(meaning)}</td></tr>"
        )
    return (
        f"<table><tr><th>field</th><th>type and range</th><th>default</th><th>meaning</th></tr>{''.join(lines)}</table>"
    )


def _type(schema: Schema) -> str:
    """What a value may be, in a few words; null, which means that a field was not given, is left out."""
    if "$ref" in schema:
        return _link(schema["$ref"])
    if "const" in schema:
        return f"<code>{html.escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(
            f"<code>{html.escape(json.dumps(each))}</code>" for each in schema["enum"] if each is not None
        )
    if "oneOf" in schema or ("anyOf" in schema and "type" not in schema):
        options = [each for key in ("oneOf", "anyOf") for each in schema.get(key, ()) if each != {"type": "null"}]
        return " or ".join(_type(each) for each in options)
    return " ".join(_words(schema)) or "anything"


def _words(schema: Schema) -> Iterator[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    match kinds:
        case ["array"]:
            yield f"list of ({_type(schema.get('items', {}))})"
        case ["object"] if schema.get("properties"):
            yield (
                "{"
                + ", ".join(f"{html.escape(name)}: {_type(each)}" for name, each in schema["properties"].items())
                + "}"
            )
        case _:
            yield " or ".join(kinds)
    yield from (f"{words} {schema[bound]}" for bound, words in _BOUNDS.items() if bound in schema)


def _link(reference: str) -> str:
    name = reference.removeprefix(_PREFIX)
    return f'<a href="#{name}">{name}</a>'


def _text(text: str) -> str:
    """Plain words with code between backquotes."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
