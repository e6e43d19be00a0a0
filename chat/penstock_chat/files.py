"""Conversations on disk: written whole or not at all, readable by their owner alone."""

import os
import tempfile
from pathlib import Path

from penstock_chat.errors import InputError
from penstock_chat.saved import Saved, read_saved, write_saved

MAX_BYTES = 64 << 20


def load(name: str) -> Saved:
    """
    Raises:
        InputError: the file cannot be read, or is no saved conversation.
    """
    path = _path(name)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"cannot read {name}: it has more than {MAX_BYTES} bytes")
    try:
        return read_saved(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"cannot read {name}: this is not UTF-8 text") from None
    except InputError as error:
        raise InputError(f"cannot read {name}: {error.message}") from None


def save(name: str, saved: Saved) -> Path:
    """Write the file, in place of a conversation saved before; returns its whole path.

    Raises:
        InputError: it cannot be written, or a file of another kind has this name.
    """
    # A link is followed: what it leads to is replaced, not the link.
    path = _path(name).resolve()
    if path.exists():
        try:
            load(str(path))
        except InputError:
            raise InputError(f"{name} exists and is not a saved conversation; choose another name") from None
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(write_saved(saved))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(f"cannot write {name}: {error.strerror}") from None
    return path


def _path(name: str) -> Path:
    if not name or "\0" in name:
        raise InputError("a file name is missing")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise InputError(f"cannot use {name}: {error}") from None
