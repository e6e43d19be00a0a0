"""Settings: the fields of a request that a user sets by name. What they mean, and whether they are right, is the
server's to say; here a text becomes a name and a JSON value, and back."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from penstock_chat.errors import InputError

Settings = Mapping[str, Any]

# Offered by completion. Others can be set too: a server that does not know one says so.
KNOWN_SETTINGS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "min_tokens",
    "stop",
    "seed",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "ignore_eos",
    "decoding",
    "chat_template_kwargs",
)

# Fields of a request that are no settings, with what is to be used instead.
_TAKEN = {
    "model": "/model NAME chooses the model",
    "system": "/system TEXT sets the system message",
    "messages": "the messages are the conversation",
    "stream": "replies are always streamed",
    "stream_options": "token counts are always asked for",
    "n": "/compare shows two replies",
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_assignment(text: str) -> tuple[str, Any]:
    """`NAME VALUE` or `NAME=VALUE` as a setting.

    Raises:
        InputError: there is no name, no value, or the value begins like JSON and is none.
    """
    match = re.fullmatch(rf"\s*({_NAME.pattern})(?:\s*=\s*|\s+)(\S.*)", text, re.DOTALL)
    if match is None:
        raise InputError(f"a setting is NAME VALUE, like temperature 0.2, not {text.strip()!r}")
    return check_name(match[1]), read_value(match[2].strip(), match[1])


def read_assignments(text: str, *, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """`NAME=VALUE NAME=VALUE ...`; a value with spaces is JSON (`stop=["a b"]`) and ends where its JSON does.

    Args:
        also: names that are no settings and allowed here all the same.

    Raises:
        InputError
    """
    settings: dict[str, Any] = {}
    rest = text.strip()
    while rest:
        match = re.match(rf"({_NAME.pattern})\s*=\s*", rest)
        if match is None:
            raise InputError(f"settings are NAME=VALUE NAME=VALUE, not {rest!r}")
        name = match[1] if match[1] in also else check_name(match[1])
        value = rest[match.end() :]
        if value[:1] in ("{", "[", '"'):
            settings[name], length = _read_json_start(value, name)
        else:
            length = len(value.split(maxsplit=1)[0]) if value else 0
            settings[name] = read_value(value[:length], name)
        rest = value[length:]
        if rest and not rest[0].isspace():
            raise InputError(f"{name}: a space is missing before {rest!r}")
        rest = rest.lstrip()
    return settings


def check_name(name: str) -> str:
    """
    Raises:
        InputError: this name is no setting's; says what to use instead.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{name!r} is not the name of a setting")
    if name in _TAKEN:
        raise InputError(f"{name} is not a setting: {_TAKEN[name]}")
    return name


def read_value(text: str, name: str) -> Any:
    """A value: JSON if it is JSON, otherwise the text itself.

    Raises:
        InputError: it is empty, or begins like a JSON object, list or string and is none.
    """
    if not text:
        raise InputError(f"{name}: a value is missing")
    if text[0] in ("{", "[", '"'):
        value, length = _read_json_start(text, name)
        if text[length:].strip():
            raise InputError(f"{name}: {text[length:].strip()!r} stands after the end of the JSON value")
        return value
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return value if is_finite(value) else text


def written(value: Any) -> str:
    """A value as it would be typed."""
    text = json.dumps(value, ensure_ascii=False)
    # A text that would be read as itself needs no quotes.
    if isinstance(value, str) and value and value == value.strip() and value[0] not in '{["':
        return value if read_value(value, "") == value and type(read_value(value, "")) is str else text
    return text


def _read_json_start(text: str, name: str) -> tuple[Any, int]:
    try:
        value, length = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{name}: this is not valid JSON: {said}{place}") from None
    if not is_finite(value):
        raise InputError(f"{name}: a number in this is too large")
    return value, length


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def is_finite(value: Any) -> bool:
    """No number in it is infinite, as 1e999 would be: JSON could not carry it."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return all(map(is_finite, value)) if isinstance(value, list) else True
