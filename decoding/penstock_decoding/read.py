"""Reads a frozen dataclass of parameters from JSON values: unknown keys, wrong types and ranges fail by name.

A parameter class is a frozen dataclass whose `__post_init__` raises `ParameterError(field, ...)` for its ranges; the
readers here prefix the path. Types understood: int, float, bool, str, T | None, Literal, tuple[T, ...],
dict[int, float], JsonText, TokenLists.
"""

import dataclasses
import difflib
import functools
import itertools
import json
import logging
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sized
from typing import Any, TypeVar

from penstock_decoding.errors import DecodingFault, ParameterError
from penstock_decoding.token_lists import TokenLists

T = TypeVar("T")

JsonText = typing.NewType("JsonText", str)
"""A JSON object, or true or false, as its text. It is read from the value itself, or from a string that holds it."""

# Of lists and objects whose items are read one by one; a million of them would take seconds only to be refused.
MAX_ITEMS = 100_000

_log = logging.getLogger(__name__)


def read_params(cls: type[T], value: object, path: str) -> T:
    """An instance of the parameter class `cls` from a JSON value.

    A class with exactly one required field also takes that field's bare value: `{"top_k": 40}`, or the bare object if
    that field is a dict and the only one: `{"logit_bias": {"50256": -100}}`.

    Raises:
        ParameterError: names the offending path.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # every Params is a dataclass
    if not isinstance(value, Mapping) or _is_bare_dict(cls, fields, value):
        required = [name for name, f in fields.items() if _is_required(f)]
        if len(required) != 1:
            raise ParameterError(path, f"must be an object with the keys {_listed(fields)}")
        name = required[0]
        return _construct(cls, {name: _read_value(_hints(cls)[name], value, path)}, path, bare=True)
    for key in value:
        if key not in fields:
            raise ParameterError(f"{path}.{key}", unknown_name("parameter", str(key), fields))
    missing = [name for name, f in fields.items() if name not in value and _is_required(f)]
    if missing:
        raise ParameterError(f"{path}.{missing[0]}", "is required")
    hints = _hints(cls)
    return _construct(cls, {key: _read_value(hints[key], item, f"{path}.{key}") for key, item in value.items()}, path)


def unreadable_field(cls: type) -> str | None:
    """The first field of a parameter class whose annotation no reader here understands."""
    return next((name for name, hint in _hints(cls).items() if not _is_readable(hint)), None)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: the nearest known one, or else all of them."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"unknown {kind}; did you mean {close[0]!r}?" if close else f"unknown {kind}; known: {_listed(known)}"


def _is_bare_dict(cls: type, fields: Mapping[str, object], value: Mapping[object, object]) -> bool:
    return len(fields) == 1 and not value.keys() & fields and typing.get_origin(_hints(cls)[next(iter(fields))]) is dict


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _hints(cls: type) -> Mapping[str, Any]:
    return _resolved_hints(cls)


# To resolve them takes as long as to read all the rest of a request, and they never change.
@functools.cache
def _resolved_hints(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _construct(cls: type[T], arguments: dict[str, Any], path: str, bare: bool = False) -> T:
    try:
        return cls(**arguments)
    except ParameterError as error:
        raise ParameterError(path if bare else f"{path}.{error.param}", error.message) from None
    except Exception as error:
        # A plug-in's own check can be wrong: the request that met it fails, and is told where.
        _log.exception("%s failed", cls.__name__)
        raise DecodingFault(f"{path}: {cls.__name__} failed: {type(error).__name__}") from error


def _read_value(hint: Any, value: object, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [option for option in arguments if option is not type(None)]
        return _first_that_reads(options, value, path)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        raise ParameterError(path, f"must be one of {', '.join(map(repr, arguments))}")
    if hint is bool:
        return _checked(isinstance(value, bool), value, path, "true or false")
    if hint is int:
        return _checked(isinstance(value, int) and not isinstance(value, bool), value, path, "an integer")
    if hint is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _checked(is_number, value, path, "a number")
        number = _to_float(typing.cast("int | float", value), path)
        return _checked(math.isfinite(number), number, path, "a finite number")
    if hint is str:
        return _checked(isinstance(value, str), value, path, "a string")
    if hint is JsonText:
        return _read_json(value, path)
    if hint is TokenLists:
        return _read_token_lists(value, path)
    if origin is tuple:
        _checked(isinstance(value, (list, tuple)), value, path, "a list")
        items = typing.cast("list[object]", value)
        if arguments[0] in (int, str) and set(map(type, items)) <= {arguments[0]}:
            return tuple(items)  # there may be a million
        _check_num_items(items, path)
        if arguments[0] == tuple[int, ...] and _is_plain_lists(items):
            return tuple(map(tuple, typing.cast("list[list[int]]", items)))
        return tuple(_read_value(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        _checked(isinstance(value, Mapping), value, path, "an object")
        pairs = typing.cast("Mapping[object, object]", value).items()
        _check_num_items(pairs, path)
        return {_read_key(arguments[0], k, path): _read_value(arguments[1], v, f"{path}[{k!r}]") for k, v in pairs}
    raise AssertionError(f"{path}: no reader for the annotation {hint!r}")


def _is_readable(hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return all(_is_readable(option) for option in arguments if option is not type(None))
    if origin is tuple:
        return len(arguments) == 2 and arguments[1] is Ellipsis and _is_readable(arguments[0])
    if origin is dict:
        return all(map(_is_readable, arguments))
    return hint in (bool, int, float, str, JsonText, TokenLists) or origin is typing.Literal


def _first_that_reads(options: list[Any], value: object, path: str) -> Any:
    errors: list[ParameterError] = []
    for option in options:
        try:
            return _read_value(option, value, path)
        except ParameterError as error:
            errors.append(error)
    if all(error.param == path and error.message.startswith("must be ") for error in errors):
        told = " or ".join(error.message.removeprefix("must be ") for error in errors)
        raise ParameterError(path, f"must be {told}")
    raise errors[-1]


def _read_key(hint: Any, key: object, path: str) -> Any:
    # JSON has only string keys: OpenAI's logit_bias writes token ids as "50256".
    if hint is int and isinstance(key, str):
        try:
            return int(key)
        except ValueError:
            raise ParameterError(path, f"the key {key!r} is not a token id") from None
    return _read_value(hint, key, path)


def _read_json(value: object, path: str) -> str:
    try:
        held = json.loads(value) if isinstance(value, str) else value
        _checked(isinstance(held, (Mapping, bool)), held, path, "a JSON object, or a string that holds one")
        return json.dumps(held, allow_nan=False)
    except json.JSONDecodeError as error:
        raise ParameterError(path, f"is not JSON from character {error.pos} on") from None
    except (ValueError, TypeError):
        raise ParameterError(path, "holds something that JSON does not have") from None
    except RecursionError:
        raise ParameterError(path, "is nested too deeply") from None


def _read_token_lists(value: object, path: str) -> TokenLists:
    if isinstance(value, (list, tuple)):
        _check_num_items(value, path)
    if not _is_plain_lists(value):
        value = _read_value(tuple[tuple[int, ...], ...], value, path)  # names the place
    try:
        return TokenLists.of(typing.cast("list[list[int]]", value))
    except ValueError as error:
        raise ParameterError(path, str(error)) from None


def _check_num_items(items: Sized, path: str) -> None:
    if len(items) > MAX_ITEMS:
        raise ParameterError(path, f"must have at most {MAX_ITEMS} items")


def _is_plain_lists(value: object) -> bool:
    # There may be a million tokens: nothing here runs Python code for each.
    return (
        isinstance(value, (list, tuple))
        and set(map(type, value)) <= {list, tuple}
        and set(map(type, itertools.chain.from_iterable(value))) <= {int}
    )


def _to_float(value: "int | float", path: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ParameterError(path, "must be a finite number") from None


def _checked(is_right: bool, value: object, path: str, wanted: str) -> Any:
    if not is_right:
        raise ParameterError(path, f"must be {wanted}")
    return value
