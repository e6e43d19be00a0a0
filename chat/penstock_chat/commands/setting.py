"""Commands on what a question is asked with: system message, settings, model."""

import re
from dataclasses import replace

from penstock_chat.chat import Chat
from penstock_chat.commands.command import Command
from penstock_chat.commands.nearest import nearest
from penstock_chat.errors import InputError
from penstock_chat.settings import check_name, read_assignment, written


async def _system(chat: Chat, argument: str) -> None:
    if argument:
        chat.setup = replace(chat.setup, system=argument)
        chat.screen.note("system message set, for the next question and all before it")
    else:
        chat.screen.note(chat.setup.system or "no system message")


async def _set(chat: Chat, argument: str) -> None:
    settings = chat.setup.settings
    if not argument:
        if settings:
            chat.screen.table([(name, written(value)) for name, value in settings.items()])
        else:
            chat.screen.note("nothing is set: the server's defaults hold")
        return
    if re.fullmatch(r"\w+", argument):
        name = check_name(argument)
        chat.screen.note(f"{name} is {written(settings[name]) if name in settings else 'not set'}")
        return
    name, value = read_assignment(argument)
    chat.setup = chat.setup.with_setting(name, value)
    chat.screen.note(f"{name} is {written(value)}")


async def _unset(chat: Chat, argument: str) -> None:
    if argument == "system":
        chat.setup = replace(chat.setup, system=None)
        chat.screen.note("no system message")
        return
    if not argument:
        raise InputError("/unset NAME; /set shows what is set")
    if argument not in chat.setup.settings:
        raise InputError(f"{argument} is not set" + nearest(argument, chat.setup.settings))
    chat.setup = chat.setup.without_setting(argument)
    chat.screen.note(f"{argument} is not set")


async def _models(chat: Chat, argument: str) -> None:
    if argument:
        raise InputError("/models takes nothing after it; /model NAME chooses one")
    await chat.refresh_models()
    for name in chat.models:
        chat.screen.note(f"{'*' if name == chat.setup.model else ' '} {name}")
    if not chat.models:
        chat.screen.note("the server lists no models")


async def _model(chat: Chat, argument: str) -> None:
    if not argument:
        chat.screen.note(chat.setup.model)
        return
    chat.setup = replace(chat.setup, model=argument)
    # A server may answer to names that it does not list, so that this is no error.
    unlisted = "" if argument in chat.models else ", which the server does not list" + nearest(argument, chat.models)
    chat.screen.note(f"the model is {argument}{unlisted}")


SETTING = (
    Command(
        "/set [NAME VALUE]",
        "set a field of the requests, like temperature 0.2; alone: show all",
        _set,
        "VALUE is JSON if it is JSON, else text. The server judges it: what it does not like it names when you ask.\n"
        "  /set temperature 0.2\n"
        "  /set max_tokens 100\n"
        '  /set stop ["\\n\\n", "THE END"]\n'
        '  /set decoding {"strategy": "sample", "chain": [{"temperature": 0.8}, {"min_p": 0.05}]}',
        "settings",
    ),
    Command(
        "/unset NAME",
        "back to the server's default; `/unset system` takes the system message away",
        _unset,
        "",
        "set settings",
    ),
    Command("/system [TEXT]", "set the system message; alone: show it", _system),
    Command("/model [NAME]", "choose the model; alone: show it", _model, "", "models"),
    Command("/models", "the models that the server lists", _models),
)
