"""Reading prompts and traces from files. Every problem names the flag, the file and the line."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from load.errors import FlagError
from load.prompts import HASH_BLOCK, Prompt, TracedRequest

_PROMPT_KEYS = frozenset({"prompt", "messages", "max_tokens"})
_TRACE_KEYS = frozenset({"timestamp", "prompt", "prompt_len", "output_len"})
_MOONCAKE_KEYS = frozenset({"timestamp", "input_length", "output_length", "hash_ids"})
_MOST_TOKENS = 2**24


def read_prompts(path: Path, output_len: int | None, is_chat: bool) -> tuple[Prompt, ...]:
    """The prompts of a file: of `.jsonl` one object a line, of any other one prompt a line. Blank lines are skipped.

    An object has `prompt` (text or token ids) or, for chat, `messages`; and `max_tokens`, or else `output_len` holds.

    Raises:
        FlagError: the file cannot be read, or a line is not as described.
    """
    flag = "--prompt-file"
    if path.suffix == ".jsonl":
        prompts = [_prompt(at, fields, output_len, is_chat) for at, fields in _objects(flag, path)]
    else:
        prompts = [Prompt(line, output_len) for line in _read(flag, path).splitlines() if line.strip()]
    if not prompts:
        raise FlagError(flag, f"{path} has no prompts")
    return tuple(prompts)


def read_trace(path: Path, is_chat: bool) -> tuple[TracedRequest, ...]:
    """The requests of a trace in the order of their times, the first one at its own time.

    A line has `timestamp` (seconds), `prompt` (text or token ids) or `prompt_len`, and `output_len`; or Mooncake's
    keys, where `timestamp` is in milliseconds: `input_length`, `output_length`, and maybe `hash_ids`.

    Raises:
        FlagError: the file cannot be read, or a line is not as described.
    """
    flag = "--trace"
    requests = [_traced(at, fields, is_chat) for at, fields in _objects(flag, path)]
    if not requests:
        raise FlagError(flag, f"{path} has no requests")
    return tuple(sorted(requests, key=lambda request: request.timestamp))


class _At:
    """A place in a file, for errors."""

    def __init__(self, flag: str, path: Path, line: int) -> None:
        self._flag = flag
        self._place = f"{path}, line {line}"

    def error(self, problem: str) -> FlagError:
        return FlagError(self._flag, f"{self._place}: {problem}")

    def check_keys(self, fields: Mapping[str, Any], known: frozenset[str]) -> None:
        for name in fields.keys() - known:
            raise self.error(f"unknown key {name!r}; known are {', '.join(sorted(known))}")

    def number(self, fields: Mapping[str, Any], name: str) -> float:
        value: Any = fields.get(name)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise self.error(f"{name} must be a number of at least 0, not {value!r}")
        return float(value)

    def count(self, fields: Mapping[str, Any], name: str) -> int:
        value = fields.get(name)
        if type(value) is not int or not 1 <= value <= _MOST_TOKENS:
            raise self.error(f"{name} must be a whole number from 1 to {_MOST_TOKENS}, not {value!r}")
        return value

    def content(self, value: Any, is_chat: bool) -> str | list[int]:
        if isinstance(value, str):
            return value
        is_ids = isinstance(value, list) and value and all(type(item) is int and item >= 0 for item in value)
        if not is_ids:
            raise self.error("prompt must be a string or a list of token ids")
        if is_chat:
            raise self.error("a prompt of token ids needs --endpoint completions")
        ids: list[int] = value
        return ids


def _prompt(at: _At, fields: Mapping[str, Any], output_len: int | None, is_chat: bool) -> Prompt:
    at.check_keys(fields, _PROMPT_KEYS)
    if ("prompt" in fields) == ("messages" in fields):
        raise at.error("either prompt or messages is needed")
    length = at.count(fields, "max_tokens") if "max_tokens" in fields else output_len
    if "prompt" in fields:
        return Prompt(at.content(fields["prompt"], is_chat), length)
    messages = fields["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise at.error("messages must be a list of objects")
    if not is_chat:
        raise at.error("messages need --endpoint chat")
    return Prompt(messages, length)


def _traced(at: _At, fields: Mapping[str, Any], is_chat: bool) -> TracedRequest:
    if "input_length" in fields or "output_length" in fields:
        at.check_keys(fields, _MOONCAKE_KEYS)
        input_len = at.count(fields, "input_length")
        hash_ids = fields.get("hash_ids", [])
        if not isinstance(hash_ids, list) or not all(type(i) is int and 0 <= i < 2**63 for i in hash_ids):
            raise at.error("hash_ids must be a list of numbers of at least 0")
        return TracedRequest(
            timestamp=at.number(fields, "timestamp") / 1e3,
            output_len=at.count(fields, "output_length"),
            input_len=input_len,
            hash_ids=tuple(hash_ids[: math.ceil(input_len / HASH_BLOCK)]),
        )
    at.check_keys(fields, _TRACE_KEYS)
    if ("prompt" in fields) == ("prompt_len" in fields):
        raise at.error("either prompt or prompt_len is needed")
    timestamp, output_len = at.number(fields, "timestamp"), at.count(fields, "output_len")
    if "prompt" in fields:
        return TracedRequest(timestamp, output_len, content=at.content(fields["prompt"], is_chat))
    return TracedRequest(timestamp, output_len, input_len=at.count(fields, "prompt_len"))


def _objects(flag: str, path: Path) -> Iterator[tuple[_At, dict[str, Any]]]:
    for number, line in enumerate(_read(flag, path).split("\n"), 1):
        if not line.strip():
            continue
        at = _At(flag, path, number)
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise at.error(f"no valid JSON: {error}") from None
        if not isinstance(fields, dict):
            raise at.error("must be a JSON object")
        yield at, fields


def _read(flag: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FlagError(flag, f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FlagError(flag, f"{path} is not UTF-8 text") from None
