"""Reads a frozen dataclass of parameters from JSON values: unknown keys, wrong types and ranges fail by name.

A parameter class is a frozen dataclass whose `__post_init__` raises `ParameterError(field, ...)` for its ranges; the
readers here prefix the path. Types understood: int, float, bool, str, T | None, Literal, tuple[int, ...],
dict[int, float].
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from penstock_decoding.errors import ParameterError

T = TypeVar("T")


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


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: the nearest known one, or else all of them."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"unknown {kind}; did you mean {close[0]!r}?" if close else f"unknown {kind}; known: {_listed(known)}"


def _is_bare_dict(cls: type, fields: Mapping[str, object], value: Mapping[object, object]) -> bool:
    return len(fields) == 1 and not value.keys() & fields and typing.get_origin(_hints(cls)[next(iter(fields))]) is dict


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _construct(cls: type[T], arguments: dict[str, Any], path: str, bare: bool = False) -> T:
    try:
        return cls(**arguments)
    except ParameterError as error:
        raise ParameterError(path if bare else f"{path}.{error.param}", error.message) from None


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
    if origin is tuple:
        _checked(isinstance(value, (list, tuple)), value, path, "a list")
        items = typing.cast("list[object]", value)
        return tuple(_read_value(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        _checked(isinstance(value, Mapping), value, path, "an object")
        pairs = typing.cast("Mapping[object, object]", value).items()
        return {_read_key(arguments[0], k, path): _read_value(arguments[1], v, f"{path}[{k!r}]") for k, v in pairs}
    raise AssertionError(f"{path}: no reader for the annotation {hint!r}")


def _first_that_reads(options: list[Any], value: object, path: str) -> Any:
    for option in options[:-1]:
        try:
            return _read_value(option, value, path)
        except ParameterError:
            continue
    return _read_value(options[-1], value, path)


def _read_key(hint: Any, key: object, path: str) -> Any:
    # JSON has only string keys: OpenAI's logit_bias writes token ids as "50256".
    if hint is int and isinstance(key, str):
        try:
            return int(key)
        except ValueError:
            raise ParameterError(path, f"the key {key!r} is not a token id") from None
    return _read_value(hint, key, path)


def _to_float(value: "int | float", path: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ParameterError(path, "must be a finite number") from None


def _checked(is_right: bool, value: object, path: str, wanted: str) -> Any:
    if not is_right:
        raise ParameterError(path, f"must be {wanted}")
    return value
