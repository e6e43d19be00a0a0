"""`Prompt`: reads what the user types: one message, of one line or of several."""

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth

from penstock_chat.chat import Chat
from penstock_chat.terminal.completion import ChatCompleter

QUOTES = '"""'


class Prompt:
    """
    Args:
        has_color: False draws without any.
    """

    def __init__(self, chat: Chat, history: History, *, has_color: bool) -> None:
        self._session: PromptSession[str] = PromptSession(
            [("bold ansicyan", "> ")],
            multiline=True,
            prompt_continuation="  ",
            history=history,
            completer=ChatCompleter(chat),
            complete_while_typing=False,
            key_bindings=_keys(),
            enable_open_in_editor=False,
            color_depth=None if has_color else ColorDepth.DEPTH_1_BIT,
        )

    async def read(self) -> str:
        """A message, without the quotes that held its lines together.

        Raises:
            KeyboardInterrupt: Ctrl-C on an empty line.
            EOFError: Ctrl-D on an empty line.
        """
        return message_of(await self._session.prompt_async(handle_sigint=False))


def is_quote_open(text: str) -> bool:
    """Whether a message that begins with quotes has not ended with them yet."""
    stripped = text.strip()
    return stripped.startswith(QUOTES) and not stripped[len(QUOTES) :].endswith(QUOTES)


def message_of(text: str) -> str:
    """What is sent for what was typed."""
    stripped = text.strip()
    if stripped.startswith(QUOTES) and stripped.endswith(QUOTES) and len(stripped) >= 2 * len(QUOTES):
        return stripped[len(QUOTES) : -len(QUOTES)].strip("\n")
    # Spaces before the first line stay: they may be the indentation of code.
    return text.lstrip("\n").rstrip()


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @Condition
    def is_searching() -> bool:
        return get_app().layout.is_searching

    @keys.add("enter", filter=~is_searching, eager=True)
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            # Takes what Tab offered.
            buffer.complete_state = None
        elif buffer.document.is_cursor_at_the_end and is_quote_open(buffer.text):
            buffer.insert_text("\n")
        elif buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            # Only this one goes: those in text that was pasted belong to it.
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def further_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            app: Application[str] = event.app
            app.exit(exception=KeyboardInterrupt())

    return keys
