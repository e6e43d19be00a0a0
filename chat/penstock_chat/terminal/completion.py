"""What Tab offers: command names, then what the command takes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from penstock_chat.chat import Chat
from penstock_chat.commands.command import Completes
from penstock_chat.commands.table import COMMANDS
from penstock_chat.safe_text import one_line
from penstock_chat.settings import KNOWN_SETTINGS


class ChatCompleter(Completer):
    """Completes the first line of a message, if it is a command."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._paths = PathCompleter(expanduser=True)
        self._kinds = {name: command.completes for command in COMMANDS for name in (command.name, *command.aliases)}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        if not line.startswith("/") or "\n" in line:
            return
        name, space, argument = line.partition(" ")
        if not space:
            # One that takes something is followed by the space before it.
            names = {command.name + " " * (command.usage != command.name): command.summary for command in COMMANDS}
            yield from _beginning(name, names, names)
        elif self._kinds.get(name) == "files":
            yield from self._paths.get_completions(Document(argument.lstrip()), complete_event)
        elif name == "/compare":
            yield from _beginning(re.split(r"[\s|]", argument)[-1], [f"{one}=" for one in KNOWN_SETTINGS])
        elif not re.search(r"\s", argument.lstrip()):
            offered: Mapping[Completes, Callable[[], Sequence[str]]] = {
                "settings": lambda: [f"{one} " for one in dict.fromkeys([*KNOWN_SETTINGS, *self._chat.setup.settings])],
                "set settings": lambda: [*self._chat.setup.settings, *(["system"] if self._chat.setup.system else [])],
                "models": lambda: self._chat.models,
                "commands": lambda: [command.name for command in COMMANDS],
            }
            kind: Any = self._kinds.get(name, "nothing")
            yield from _beginning(argument.lstrip(), offered.get(kind, tuple)())


def _beginning(start: str, words: Iterable[str], meanings: Mapping[str, str] | None = None) -> Iterable[Completion]:
    for word in words:
        if word.startswith(start):
            meaning = (meanings or {}).get(word)
            # Names of models come from the server.
            yield Completion(word, -len(start), display=one_line(word), display_meta=meaning)
