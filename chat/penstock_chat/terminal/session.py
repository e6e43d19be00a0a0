"""The interactive session: prompt, line, reply, again, until the user leaves."""

import asyncio
import signal
from collections.abc import Mapping

from rich.console import Console

from penstock_chat.chat import Chat
from penstock_chat.commands.command import Leave
from penstock_chat.commands.table import run_line
from penstock_chat.errors import ChatError
from penstock_chat.terminal.history import history_path, open_history
from penstock_chat.terminal.prompt import Prompt


async def run_session(chat: Chat, console: Console, environment: Mapping[str, str]) -> int:
    """Chat until the user leaves; returns the exit code."""
    history, forgetful = open_history(history_path(environment))
    prompt = Prompt(chat, history, has_color=not console.no_color)
    chat.screen.note(f"{chat.setup.model} at {chat.connection.endpoint.shown_url} · /help lists the commands")
    if forgetful is not None:
        chat.screen.note(forgetful)
    # While the user types: the first reply needs them, the prompt does not.
    warm = asyncio.get_running_loop().run_in_executor(None, _load_markdown)
    # For the whole session: one that comes just after a reply has ended must not end the program.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, chat.stop.set)
    is_leaving = False
    while True:
        try:
            line = await prompt.read()
        except EOFError:
            break
        except KeyboardInterrupt:
            if is_leaving:
                break
            is_leaving = True
            chat.screen.note("Ctrl-C again or Ctrl-D leaves")
            continue
        is_leaving = False
        await warm
        try:
            chat.stop.clear()
            await run_line(chat, line)
        except Leave:
            break
        except ChatError as error:
            chat.screen.error(error.message)
    return 0


def _load_markdown() -> None:
    import penstock_chat.view.markdown_view  # noqa: F401
