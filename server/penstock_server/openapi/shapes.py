"""The few words that schemas are written with."""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def ref(name: str) -> Schema:
    """A schema among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Mapping[str, Schema], required: Sequence[str] | None = None, description: str = "") -> Schema:
    """An object with no other properties. `required`: by default all of them."""
    told = {"description": description} if description else {}
    needed = list(properties) if required is None else list(required)
    return {
        "type": "object",
        **told,
        "properties": dict(properties),
        "required": needed,
        "additionalProperties": False,
    }


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    kind = schema.get("type")
    if "enum" in schema:
        enum = {**schema, "enum": [*schema["enum"], *([] if None in schema["enum"] else [None])]}
        return enum if kind is None else {**enum, "type": _with_null(kind)}
    if kind is not None:
        return {**schema, "type": _with_null(kind)}
    if "anyOf" in schema:
        others = [option for option in schema["anyOf"] if option != {"type": "null"}]
        return {**schema, "anyOf": [*others, {"type": "null"}]}
    told: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in told}
    return {**told, "anyOf": [rest, {"type": "null"}]} if rest else schema


def described(schema: Schema, meaning: str) -> Schema:
    return {"description": meaning, **{key: value for key, value in schema.items() if key != "description"}}


def _with_null(kind: str | list[str]) -> list[str]:
    kinds = [kind] if isinstance(kind, str) else kind
    return kinds if "null" in kinds else [*kinds, "null"]
