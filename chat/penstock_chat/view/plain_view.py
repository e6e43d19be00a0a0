"""`PlainView`: a reply as it comes, letter by letter: for pipes, for simple terminals, and for whoever prefers it."""

from typing import IO

from penstock_chat.safe_text import safe_text


class PlainView:
    """One reply on a text stream. It ends with a line break, of its own or of ours; an empty one prints nothing."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._last = "\n"

    def add(self, text: str) -> None:
        text = safe_text(text)
        if text:
            self._file.write(text)
            self._file.flush()
            self._last = text[-1]

    def think(self, text: str) -> None:
        """Not part of what a program behind a pipe asked for."""

    def close(self) -> None:
        if self._last != "\n":
            self._file.write("\n")
            self._file.flush()
