"""What was typed before, in a file that only its owner can read: people write private things to a model."""

import os
from collections.abc import Mapping
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory


def history_path(environment: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/penstock/chat_history`; the variable counts only as an absolute path, as its standard says."""
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~/.local/state"))
    return folder / "penstock" / "chat_history"


def open_history(path: Path) -> tuple[History, str | None]:
    """The history, and why it will be forgotten at the end, None if it will not."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # One that was there before may have been made by hand.
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        return InMemoryHistory(), f"what you type will not be remembered: {path}: {error.strerror}"
    return _PrivateHistory(str(path)), None


class _PrivateHistory(FileHistory):
    """A full disk must not end a chat: what cannot be written is still remembered until the end."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError:
            # The prompt stores while it draws; the next start tells, if it still cannot be written then.
            return
