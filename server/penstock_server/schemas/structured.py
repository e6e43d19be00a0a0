"""What an answer has to look like, in the words of OpenAI, vLLM and llama.cpp: all of it one grammar.

OpenAI's `response_format`; vLLM's `structured_outputs` and its older `guided_*`; llama.cpp's `json_schema` and
`grammar`. Each becomes one flat field that `read_decoding` knows; two of them at once contradict each other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock_server.errors import BadRequest

STRUCTURED_FIELDS = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
    "json_schema",
    "grammar",
)


@dataclass(frozen=True, slots=True)
class Structured:
    """One grammar. `param` is where it stands in the body; `field` and `value` are what `read_decoding` takes."""

    param: str
    field: str
    value: object

    def renamed(self, param: str) -> str:
        """A path that begins with `field`, as the caller wrote it."""
        return self.param + param.removeprefix(self.field)

    def told(self, message: str) -> str:
        """A message in which the caller's own name stands for `field`."""
        return message.replace(self.field, self.param.partition(".")[0])


_PLAIN = {
    "guided_json": "guided_json",
    "guided_regex": "guided_regex",
    "guided_choice": "guided_choice",
    "guided_grammar": "guided_grammar",
    "json_schema": "guided_json",
    "grammar": "guided_grammar",
}
# vLLM's keys of `structured_outputs`.
_KINDS = {"json": "guided_json", "regex": "guided_regex", "choice": "guided_choice", "grammar": "guided_grammar"}
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def read_structured(fields: Mapping[str, Any]) -> Structured | None:
    """The grammar that a body asks for. `fields`: those of `STRUCTURED_FIELDS`, None where not given.

    Raises:
        BadRequest: names the field.
    """
    found = [Structured(name, field, fields[name]) for name, field in _PLAIN.items() if fields.get(name) is not None]
    if fields.get("response_format") is not None:
        found += _read_response_format(fields["response_format"])
    options: dict[str, object] = {}
    if fields.get("structured_outputs") is not None:
        grammars, options = _read_structured_outputs(fields["structured_outputs"])
        found += grammars
    if fields.get("guided_whitespace_pattern") is not None:
        options = {"whitespace_pattern": _string(fields["guided_whitespace_pattern"], "guided_whitespace_pattern")}
    if len(found) > 1:
        first, second = found[0].param, found[1].param
        raise BadRequest(f"{first} and {second} both say what the answer looks like; give one", second, "invalid_value")
    if not options:
        return found[0] if found else None
    if not found or found[0].field != "guided_json":
        param = "guided_whitespace_pattern" if "structured_outputs" not in _given(fields) else "structured_outputs"
        raise BadRequest("asks for nothing without a JSON schema", param, "invalid_value")
    return Structured(found[0].param, found[0].field, _with_options(found[0].value, options))


def _read_response_format(value: object) -> list[Structured]:
    given = _object(value, "response_format", ("type", "json_schema", "schema"))
    match given.get("type"):
        case "text":
            _refuse_others(given, "response_format", "type")
            return []
        case "json_object":
            _refuse_others(given, "response_format", "type", "schema")
            if given.get("schema") is not None:  # llama.cpp's
                return [Structured("response_format.schema", "guided_json", given["schema"])]
            return [Structured("response_format", "guided_json", _ANY_OBJECT)]
        case "json_schema":
            _refuse_others(given, "response_format", "type", "json_schema")
            path = "response_format.json_schema"
            inner = _object(given.get("json_schema"), path, ("name", "description", "schema", "strict"))
            if inner.get("schema") is None:
                raise BadRequest("is required", f"{path}.schema", "missing_required_parameter")
            return [Structured(f"{path}.schema", "guided_json", inner["schema"])]
        case None:
            raise BadRequest("is required", "response_format.type", "missing_required_parameter")
        case _:
            raise BadRequest("must be text, json_object or json_schema", "response_format.type", "invalid_value")


def _read_structured_outputs(value: object) -> tuple[list[Structured], dict[str, object]]:
    path = "structured_outputs"
    flags = ("disable_fallback", "disable_any_whitespace", "disable_additional_properties")
    given = _object(value, path, (*_KINDS, "json_object", "whitespace_pattern", "structural_tag", *flags))
    for name in ("structural_tag", "disable_additional_properties"):
        if given.get(name) not in (None, False):
            raise BadRequest("not supported by this server", f"{path}.{name}", "unsupported_parameter")
    for name in ("json_object", *flags):
        if not isinstance(given.get(name, False), bool):
            raise BadRequest("must be true or false", f"{path}.{name}", "invalid_type")
    found = [Structured(f"{path}.{name}", field, given[name]) for name, field in _KINDS.items() if name in given]
    if given.get("json_object"):
        found.append(Structured(f"{path}.json_object", "guided_json", _ANY_OBJECT))
    options: dict[str, object] = {}
    if "whitespace_pattern" in given:
        options["whitespace_pattern"] = _string(given["whitespace_pattern"], f"{path}.whitespace_pattern")
    if given.get("disable_any_whitespace"):
        options["whitespace_flexible"] = False
    if len(options) > 1:
        told = "whitespace_pattern and disable_any_whitespace contradict each other; give one"
        raise BadRequest(told, f"{path}.disable_any_whitespace", "invalid_value")
    return found, options


def _with_options(schema: object, options: dict[str, object]) -> object:
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            return schema  # refused by name where it is read
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        return schema
    own = schema.get("x-guidance")
    return schema | {"x-guidance": (own if isinstance(own, dict) else {}) | options}


def _object(value: object, path: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("must be an object", path, "invalid_type")
    for name in value:
        if name not in known:
            raise BadRequest("unknown field", f"{path}.{name}", "unknown_parameter")
    return {name: item for name, item in value.items() if item is not None}


def _refuse_others(given: Mapping[str, Any], path: str, *known: str) -> None:
    for name in given:
        if name not in known:
            raise BadRequest(f"does not go with the type {given['type']}", f"{path}.{name}", "invalid_value")


def _string(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise BadRequest("must be a string", param, "invalid_type")
    return value


def _given(fields: Mapping[str, Any]) -> set[str]:
    return {name for name, value in fields.items() if value is not None}
