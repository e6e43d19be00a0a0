"""`Chunk`: what one event of a streamed reply adds. Fields that a server leaves out, or fills oddly, are absent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock_chat.errors import Broken
from penstock_chat.safe_text import encodable


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Attributes:
        thought: text of a reasoning model that is not yet its answer.
        seed: what the reply was drawn with, from servers that say so.
        num_tokens: tokens of the whole reply, from the chunk that carries the usage.
    """

    text: str = ""
    thought: str = ""
    finish_reason: str | None = None
    seed: int | None = None
    num_tokens: int | None = None


def read_chunk(data: str) -> Chunk:
    """
    Raises:
        Broken: this is no JSON object, or one that tells of an error.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Broken("the server sent an event that is not JSON") from None
    if not isinstance(value, dict):
        raise Broken("the server sent an event that is not a JSON object")
    if "error" in value or value.get("object") == "error":
        raise Broken(error_message(value) or "the server reported an error without a message")
    choice = _first_choice(value)
    # A chunk has a delta, a reply in one piece a message.
    delta = _mapping(choice.get("delta")) or _mapping(choice.get("message"))
    usage = _mapping(value.get("usage"))
    return Chunk(
        text=_text(delta.get("content")),
        thought=_text(delta.get("reasoning_content")) or _text(delta.get("reasoning")),
        finish_reason=_text(choice.get("finish_reason")) or None,
        seed=_whole(value.get("seed")),
        num_tokens=_whole(usage.get("completion_tokens")),
    )


def error_message(body: object) -> str | None:
    """The message in an error's JSON body, in the shapes that servers give it; None if there is none."""
    if isinstance(body, str):
        return body or None
    if not isinstance(body, dict):
        return None
    for name in ("error", "message", "detail"):
        value = body.get(name)
        if name == "detail" and isinstance(value, list) and value:
            # FastAPI's: where and what, of each mistake.
            first = _mapping(value[0])
            place = first.get("loc")
            where = ".".join(str(part) for part in place[1:]) if isinstance(place, list) else ""
            return f"{where}: {first.get('msg', 'is not valid')}" if where else str(first.get("msg", value[0]))
        found = error_message(value)
        if found:
            return found
    return None


def _first_choice(value: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = value.get("choices")
    if not isinstance(choices, list):
        return {}
    # Only one choice is asked for; a server that sends more has its first one shown.
    return next((choice for choice in map(_mapping, choices) if choice.get("index", 0) == 0), {})


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return encodable(value) if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
