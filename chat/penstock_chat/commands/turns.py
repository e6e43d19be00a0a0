"""Commands on questions and replies: again, back, the same, two at once."""

from penstock_chat.chat import Chat, overridden
from penstock_chat.commands.command import Command
from penstock_chat.commands.split import split_bars
from penstock_chat.errors import InputError
from penstock_chat.settings import read_assignments


async def _retry(chat: Chat, argument: str) -> None:
    _takes_nothing("/retry", argument)
    await chat.retry()
    if chat.setup.settings.get("seed") is not None:
        chat.screen.note("the seed is set: /unset seed lets each reply have its own")


async def _undo(chat: Chat, argument: str) -> None:
    _takes_nothing("/undo", argument)
    question = chat.conversation.last_question()
    chat.conversation = chat.conversation.undone()
    chat.screen.note(f"taken back: {_short(question)}")


async def _replay(chat: Chat, argument: str) -> None:
    await chat.replay(_number(argument) if argument else len(chat.conversation.exchanges))


async def _compare(chat: Chat, argument: str) -> None:
    parts = split_bars(argument, 3)
    if len(parts) < 2:
        raise InputError("/compare SETTINGS | SETTINGS, like /compare temperature=0.2 | temperature=1.2")
    first, second = (read_assignments(part, also=("model", "system")) for part in parts[:2])
    titles = (parts[0].strip() or "as set", parts[1].strip() or "as set")
    question = parts[2].strip() if len(parts) == 3 else None
    setups = (overridden(chat.setup, first), overridden(chat.setup, second))
    await chat.compare(setups, titles, question or None)


async def _keep(chat: Chat, argument: str) -> None:
    if argument not in ("1", "2"):
        raise InputError("/keep 1 or /keep 2")
    chat.keep(int(argument))
    chat.screen.note(f"kept reply {argument}")


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"{text!r} is not the number of a reply; /show numbers them")
    return int(text)


def _takes_nothing(name: str, argument: str) -> None:
    if argument:
        raise InputError(f"{name} takes nothing after it")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."


TURNS = (
    Command("/retry", "ask the last question again; with a new seed, unless one is set", _retry),
    Command("/undo", "take back the last question and its reply; again takes back the one before", _undo),
    Command(
        "/replay [N]",
        "ask for reply N (or the last) exactly as it was asked, and tell whether the same comes",
        _replay,
        "Model, system message, settings and seed are those of that reply; what is kept does not change.",
    ),
    Command(
        "/compare A | B [| QUESTION]",
        "two replies side by side, from the same seed, each with settings of its own",
        _compare,
        "A and B are settings, NAME=VALUE NAME=VALUE, over those that are set; empty means just those. model=NAME and\n"
        'system="TEXT" can be compared too. Values with spaces are JSON: stop=["the end"]. Without a question the\n'
        "last one is asked again. /keep 1 or /keep 2 takes a reply into the conversation, which else stays as it is.\n"
        "  /compare temperature=0.2 | temperature=1.2\n"
        '  /compare | decoding={"strategy": "greedy"} | What is 3 plus 4?',
        "settings",
    ),
    Command("/keep 1|2", "put one of two compared replies into the conversation", _keep),
)
