"""Commands on the whole conversation: show, begin anew, save, load."""

from dataclasses import replace

from penstock_chat import files
from penstock_chat.chat import Chat
from penstock_chat.commands.command import Command, Leave
from penstock_chat.conversation import Conversation
from penstock_chat.errors import InputError
from penstock_chat.saved import Saved


async def _save(chat: Chat, argument: str) -> None:
    if not argument:
        raise InputError("/save FILE")
    path = files.save(argument, Saved(chat.connection.endpoint.shown_url, chat.setup, chat.conversation))
    chat.screen.note(f"saved to {path}")


async def _load(chat: Chat, argument: str) -> None:
    if not argument:
        raise InputError("/load FILE")
    apply_saved(chat, files.load(argument))


def apply_saved(chat: Chat, saved: Saved) -> None:
    """Go on with a saved conversation, on this chat's server whatever the file says."""
    number = len(saved.conversation.exchanges)
    told = f"{number} {'reply' if number == 1 else 'replies'} loaded"
    if saved.setup.model != chat.setup.model and chat.models and saved.setup.model not in chat.models:
        told += f"; {saved.setup.model} is not here, so that {chat.setup.model} goes on"
        saved = replace(saved, setup=replace(saved.setup, model=chat.setup.model))
    if saved.conversation.unanswered is not None:
        told += "; the last question has no reply yet: /retry asks it"
    chat.setup, chat.conversation = saved.setup, saved.conversation
    chat.screen.note(told)


async def _new(chat: Chat, argument: str) -> None:
    if argument:
        raise InputError("/new takes nothing after it")
    chat.conversation = Conversation()
    chat.screen.note("a new conversation; system message and settings stay")


async def _show(chat: Chat, argument: str) -> None:
    if argument:
        raise InputError("/show takes nothing after it")
    if chat.setup.system:
        chat.screen.note(f"system: {chat.setup.system}")
    for number, exchange in enumerate(chat.conversation.exchanges, 1):
        chat.screen.exchange(number, exchange)
    if chat.conversation.unanswered is not None:
        chat.screen.note(f"without a reply: {chat.conversation.unanswered}")
    elif not chat.conversation.exchanges:
        chat.screen.note("nothing was asked yet")


async def _quit(chat: Chat, argument: str) -> None:
    raise Leave


KEEPING = (
    Command("/show", "the conversation so far", _show),
    Command("/new", "begin a new conversation; system message and settings stay", _new, aliases=("/clear",)),
    Command(
        "/save FILE",
        "write conversation, system message and settings to a JSON file",
        _save,
        "Each reply is saved with what it was asked with, its seed too, so that /replay works after /load.",
        "files",
    ),
    Command("/load FILE", "go on with a conversation that /save wrote", _load, "", "files"),
    Command("/quit", "leave; so does Ctrl-D", _quit, aliases=("/exit",)),
)
