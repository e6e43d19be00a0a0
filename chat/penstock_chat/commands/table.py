"""`COMMANDS`: the table of all commands, and how a line finds its way to one."""

from penstock_chat.chat import Chat
from penstock_chat.commands.command import Command
from penstock_chat.commands.keeping import KEEPING
from penstock_chat.commands.nearest import nearest
from penstock_chat.commands.setting import SETTING
from penstock_chat.commands.turns import TURNS
from penstock_chat.errors import InputError

KEYS = (
    ("Enter", "send"),
    ("Alt-Enter, or \\ at the end of a line", "a further line"),
    ('"""', "begins and ends a message of several lines"),
    ("//", "begins a message that starts with a slash"),
    ("Ctrl-C", "stop the reply, here and on the server; at the prompt: clear the line, twice: leave"),
    ("Ctrl-D", "leave"),
    ("Tab", "complete commands, settings, models, files"),
    ("Up, Ctrl-R", "earlier messages, search in them"),
)


async def _help(chat: Chat, argument: str) -> None:
    if argument:
        command = find(argument if argument.startswith("/") else f"/{argument}")
        also = f" (also {', '.join(command.aliases)})" if command.aliases else ""
        chat.screen.table([(command.usage, command.summary + also)])
        if command.details:
            chat.screen.note(command.details)
        return
    chat.screen.table([(command.usage, command.summary) for command in COMMANDS])
    chat.screen.note("")
    chat.screen.table(KEYS)


COMMANDS = (
    Command("/help [COMMAND]", "this list, or more about one command", _help, "", "commands"),
    *TURNS,
    *SETTING,
    *KEEPING,
)

_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def find(name: str) -> Command:
    """
    Raises:
        InputError: there is no such command; names the nearest one.
    """
    if name not in _BY_NAME:
        told = nearest(name, _BY_NAME) or "; /help lists them, // sends a text that starts with a slash"
        raise InputError(f"there is no command {name}{told}")
    return _BY_NAME[name]


async def run_line(chat: Chat, line: str) -> None:
    """What the user typed: a command, or a message.

    Raises:
        Leave
        ChatError: the line is not understood, or the server did not answer.
    """
    if line.startswith("/") and not line.startswith("//"):
        name, *rest = line.split(maxsplit=1)
        await find(name).run(chat, "".join(rest).strip())
    elif line.strip():
        await chat.ask(line.removeprefix("/") if line.startswith("//") else line)
