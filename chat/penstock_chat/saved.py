"""A conversation as JSON text and back. The JSON holds what each reply was asked with, so that it can be asked again.

The key is never in it. The server's URL is, to be shown: reading a file never makes the client talk to another server.
"""

import json
from dataclasses import dataclass, field
from typing import Any, get_args

from penstock_chat.conversation import Conversation, Ending, Reply, Setup
from penstock_chat.errors import InputError
from penstock_chat.safe_text import encodable
from penstock_chat.settings import check_name, is_finite

FORMAT = "penstock-chat"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds: a conversation, and what the next question would have been asked with."""

    url: str
    setup: Setup
    conversation: Conversation = field(default_factory=Conversation)


def write_saved(saved: Saved) -> str:
    """The text of a file."""
    messages: list[dict[str, Any]] = []
    for exchange in saved.conversation.exchanges:
        reply = exchange.reply
        messages.append({"role": "user", "content": exchange.question})
        messages.append(
            {
                "role": "assistant",
                "content": reply.text,
                "ending": reply.ending,
                "finish_reason": reply.finish_reason,
                "seed": reply.seed,
                **_setup_fields(reply.setup),
            }
        )
    if saved.conversation.unanswered is not None:
        messages.append({"role": "user", "content": saved.conversation.unanswered})
    fields = {"format": FORMAT, "version": VERSION, "url": saved.url, **_setup_fields(saved.setup)}
    return json.dumps({**fields, "messages": messages}, ensure_ascii=False, indent=2) + "\n"


def read_saved(text: str) -> Saved:
    """
    Raises:
        InputError: names the first thing that is not as it must be, like `messages[3].seed`.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise InputError("this is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"this is not JSON: {error}") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError("this is not a conversation that /save wrote")
    if value.get("version") != VERSION:
        raise InputError(f"this has version {value.get('version')!r}, and version {VERSION} can be read")
    fields = _Fields(value, "")
    fields.only("format", "version", "url", "model", "system", "settings", "messages")
    return Saved(fields.text("url"), fields.setup(), _read_messages(fields.list("messages")))


def _read_messages(messages: list[Any]) -> Conversation:
    conversation = Conversation()
    for i, value in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(value, dict):
            raise InputError(f"{where}: must be an object")
        fields = _Fields(value, where + ".")
        if fields.text("role") == "user" and conversation.unanswered is None:
            fields.only("role", "content")
            conversation = conversation.asked(fields.text("content"))
        elif value["role"] == "assistant" and conversation.unanswered is not None:
            fields.only("role", "content", "ending", "finish_reason", "seed", "model", "system", "settings")
            conversation = conversation.answered(conversation.unanswered, fields.reply())
        else:
            raise InputError(f"{where}.role: must be {'user' if conversation.unanswered is None else 'assistant'}")
    return conversation


def _setup_fields(setup: Setup) -> dict[str, Any]:
    return {"model": setup.model, "system": setup.system, "settings": dict(setup.settings)}


class _Fields:
    """A JSON object whose fields are checked as they are read; `place` goes before their names in messages."""

    def __init__(self, value: dict[str, Any], place: str) -> None:
        self._value, self._place = value, place

    def only(self, *names: str) -> None:
        for name in self._value:
            if name not in names:
                raise InputError(f"{self._place}{name}: unknown field")

    def text(self, name: str) -> str:
        return encodable(self._typed(name, str, "a string"))

    def list(self, name: str) -> list[Any]:
        value: list[Any] = self._typed(name, list, "a list")
        return value

    def setup(self) -> Setup:
        settings: dict[str, Any] = self._typed("settings", dict, "an object")
        for name, value in settings.items():
            try:
                check_name(name)
            except InputError as error:
                raise InputError(f"{self._place}settings: {error.message}") from None
            if not is_finite(value):
                raise InputError(f"{self._place}settings.{name}: a number in this is not finite")
        system = None if self._value.get("system", "") is None else self.text("system")
        return Setup(self.text("model"), system, settings)

    def reply(self) -> Reply:
        seed = self._value.get("seed")
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise InputError(f"{self._place}seed: must be a whole number or null")
        ending = self.text("ending")
        if ending not in get_args(Ending):
            raise InputError(f"{self._place}ending: must be one of {', '.join(get_args(Ending))}")
        reason = None if self._value.get("finish_reason", "") is None else self.text("finish_reason")
        return Reply(self.text("content"), self.setup(), seed, reason, ending)  # type: ignore[arg-type]  # checked

    def _typed(self, name: str, kind: type, told: str) -> Any:
        if name not in self._value:
            raise InputError(f"{self._place}{name}: is missing")
        if not isinstance(self._value[name], kind):
            raise InputError(f"{self._place}{name}: must be {told}")
        return self._value[name]
