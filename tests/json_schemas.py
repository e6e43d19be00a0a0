"""A validator of JSON Schema, of the keywords that our documents use and no others, and values at a schema's edges."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_WITHOUT_EFFECT = {"description", "default", "title", "examples", "discriminator", "contentEncoding"}
Schema = Mapping[str, Any]


def faults(value: Any, schema: Schema | bool, root: Schema, path: str = "") -> list[str]:
    """What is wrong with a value; nothing if it conforms. `root`: the document that `$ref`s lead into.

    Raises:
        KeyError: the schema has a keyword that is not known here.
    """
    if isinstance(schema, bool):
        return [] if schema else [f"{path}: nothing is allowed here"]
    found: list[str] = []
    for keyword, wanted in schema.items():
        if keyword not in _WITHOUT_EFFECT and not keyword.startswith("x-"):
            found += _RULES[keyword](value, wanted, schema, root, path)
    return found


def edges(schema: Schema) -> Iterator[Any]:
    """Values just inside and just outside of each bound in a schema."""
    step = 1 if "integer" in _kinds(schema) else 0.0078125
    for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if keyword in schema:
            yield from (schema[keyword] - step, schema[keyword], schema[keyword] + step)
    for keyword in ("minLength", "maxLength"):
        if keyword in schema:
            yield from ("a" * length for length in range(max(schema[keyword] - 1, 0), schema[keyword] + 2))
    if "array" in _kinds(schema):
        items = schema.get("items", {})
        for keyword in ("minItems", "maxItems"):
            if keyword in schema and _kinds(items) & {"string", "array", "integer"}:  # others are not made here
                inside = _inside(items)
                yield from ([inside] * length for length in range(max(schema[keyword] - 1, 0), schema[keyword] + 2))
        yield from ([item] for item in edges(items))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from ({"0": item} for item in edges(schema["additionalProperties"]))
    for option in schema.get("anyOf", ()):
        yield from edges({"type": schema.get("type", []), **option})
    if "const" in schema:
        yield schema["const"]


def resolved(schema: Schema, root: Schema) -> Schema:
    """The schema that a `$ref` names, or itself."""
    while "$ref" in schema:
        for part in schema["$ref"].removeprefix("#/").split("/"):
            root = root[part]
        schema = root
    return schema


def _inside(schema: Schema) -> Any:
    """A plain value that a schema of items allows."""
    match sorted(_kinds(schema) - {"null"}):
        case ["string"]:
            return "a"
        case ["array"]:
            return [_inside(schema["items"])]
        case ["integer"]:
            return 1
        case kinds:
            raise KeyError(f"no value for {kinds}")


def _kinds(schema: Schema) -> set[str]:
    kinds = schema.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _number(value: Any) -> bool:
    return _is_kind(value, "number")


def _check(is_right: bool, path: str, told: str) -> list[str]:
    return [] if is_right else [f"{path or 'the value'}: {told}"]


def _type(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    return _check(any(_is_kind(value, kind) for kind in _kinds(schema)), path, f"{value!r:.80} is no {wanted}")


def _properties(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        each for name in wanted if name in value for each in faults(value[name], wanted[name], root, f"{path}/{name}")
    ]


def _additional(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    more = value.keys() - schema.get("properties", {}).keys()
    return [each for name in more for each in faults(value[name], wanted, root, f"{path}/{name}")]


def _required(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    missing = [name for name in wanted if isinstance(value, dict) and name not in value]
    return _check(not missing, path, f"{missing} missing")


def _names(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    return [each for name in value for each in faults(name, wanted, root, path)] if isinstance(value, dict) else []


def _items(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    if not isinstance(value, list):
        return []
    different = {repr(item): (i, item) for i, item in enumerate(value)}  # a million of the same are looked at once
    return [each for i, item in different.values() for each in faults(item, wanted, root, f"{path}/{i}")]


def _any_of(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    found = [faults(value, option, root, path) for option in wanted]
    return [] if any(not each for each in found) else min(found, key=len)


def _one_of(value: Any, wanted: Any, schema: Schema, root: Schema, path: str) -> list[str]:
    found = [faults(value, option, root, path) for option in wanted]
    num_fitting = sum(not each for each in found)
    return min(found, key=len) if not num_fitting else _check(num_fitting == 1, path, f"{num_fitting} of oneOf fit")


def _length(value: Any, kind: type, wanted: int, path: str, is_most: bool) -> list[str]:
    if not isinstance(value, kind) or not isinstance(value, (str, list, dict)):
        return []
    return _check(len(value) <= wanted if is_most else len(value) >= wanted, path, f"has length {len(value)}")


_RULES: dict[str, Any] = {
    "$ref": lambda value, wanted, schema, root, path: faults(value, resolved({"$ref": wanted}, root), root, path),
    "type": _type,
    "enum": lambda value, wanted, schema, root, path: _check(
        any(_same(value, each) for each in wanted), path, f"{value!r:.80} is none of {wanted}"
    ),
    "const": lambda value, wanted, schema, root, path: _check(
        _same(value, wanted), path, f"{value!r:.80} not {wanted}"
    ),
    "not": lambda value, wanted, schema, root, path: _check(
        bool(faults(value, wanted, root, path)), path, f"{value!r:.80} is {wanted}"
    ),
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "propertyNames": _names,
    "items": _items,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "pattern": lambda value, wanted, schema, root, path: _check(
        not isinstance(value, str) or re.search(wanted, value) is not None, path, f"{value!r:.80} against {wanted}"
    ),
    "minimum": lambda value, wanted, *rest: _check(
        not _number(value) or value >= wanted, rest[2], f"{value} is too small"
    ),
    "maximum": lambda value, wanted, *rest: _check(
        not _number(value) or value <= wanted, rest[2], f"{value} is too large"
    ),
    "exclusiveMinimum": lambda value, wanted, *rest: _check(
        not _number(value) or value > wanted, rest[2], f"{value} is too small"
    ),
    "exclusiveMaximum": lambda value, wanted, *rest: _check(
        not _number(value) or value < wanted, rest[2], f"{value} is too large"
    ),
    "minLength": lambda value, wanted, *rest: _length(value, str, wanted, rest[2], False),
    "maxLength": lambda value, wanted, *rest: _length(value, str, wanted, rest[2], True),
    "minItems": lambda value, wanted, *rest: _length(value, list, wanted, rest[2], False),
    "maxItems": lambda value, wanted, *rest: _length(value, list, wanted, rest[2], True),
    "maxProperties": lambda value, wanted, *rest: _length(value, dict, wanted, rest[2], True),
    "minProperties": lambda value, wanted, *rest: _length(value, dict, wanted, rest[2], False),
}
