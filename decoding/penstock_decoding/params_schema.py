"""The JSON schema of a parameter class: what `read_params` reads, told to those who ask what there is.

Types, defaults and ranges. What a type cannot tell, a field's `metadata` does, in keywords of JSON Schema:
`share: float = field(metadata={"minimum": 0, "maximum": 1})`. They are told, not checked: that is `__post_init__`'s.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from penstock_decoding.read import JsonText
from penstock_decoding.token_lists import TokenLists

_PLAIN: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    JsonText: {"type": ["object", "boolean", "string"], "description": "a JSON object, true or false, or its text"},
    TokenLists: {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
}

_KEYWORDS = frozenset(
    "minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength pattern minItems maxItems items "
    "additionalProperties anyOf description".split()
)


def params_schema(cls: type) -> dict[str, Any]:
    """The schema of the object that makes an instance of the parameter class `cls`."""
    hints = typing.get_type_hints(cls)
    properties: dict[str, Any] = {}
    required = []
    for field in dataclasses.fields(cls):
        told = {keyword: field.metadata[keyword] for keyword in _KEYWORDS & field.metadata.keys()}
        schema = _merged(_schema(hints[field.name]), told)
        if field.default is not dataclasses.MISSING:
            schema["default"] = _written(field.default)
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        properties[field.name] = schema
    described = {"description": " ".join((cls.__doc__ or "").split())}
    return described | {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _merged(schema: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both; where both have a keyword that holds a schema, these are merged too."""
    both = {key: _merged(schema[key], more[key]) for key in more if isinstance(schema.get(key), dict)}
    return {**schema, **more, **both}


def _written(default: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(default, TokenLists):
        return [list(tokens) for tokens in default]
    return list(default) if isinstance(default, tuple) else default


def _schema(hint: Any) -> dict[str, Any]:
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        schemas: list[dict[str, Any]] = [
            {"type": "null"} if part is type(None) else _schema(part) for part in arguments
        ]
        if len(schemas) == 2 and schemas[1] == {"type": "null"} and "type" in schemas[0]:
            kinds = schemas[0]["type"]
            return {**schemas[0], "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}
        return {"anyOf": schemas}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        ids = {"propertyNames": {"pattern": "^[0-9]+$"}} if arguments[0] is int else {}
        return {"type": "object", **ids, "additionalProperties": _schema(arguments[1])}
    raise TypeError(f"no schema for {hint!r}")
