"""`Command`: one line of the table of commands."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from penstock_chat.chat import Chat

# What Tab offers after the command's name.
Completes = Literal["nothing", "settings", "set settings", "models", "files", "commands"]


class Leave(Exception):
    """The user wants to leave."""


@dataclass(frozen=True, slots=True)
class Command:
    """
    Attributes:
        usage: how it is typed, its name first, like `/set [NAME VALUE]`.
        summary: one line for /help.
        details: more lines for `/help NAME`.
        run: gets the rest of the line, without spaces around it.
    """

    usage: str
    summary: str
    run: Callable[[Chat, str], Awaitable[None]]
    details: str = ""
    completes: Completes = "nothing"
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.usage.split(maxsplit=1)[0]
