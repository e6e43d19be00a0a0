"""`Columns`: two replies side by side while both come, and `stacked`, one below the other where there is no room."""

from collections.abc import Callable
from typing import IO

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from penstock_chat.safe_text import one_line, safe_text
from penstock_chat.view.live_lines import Line, LiveLines
from penstock_chat.view.painter import Painter
from penstock_chat.view.plain_view import PlainView

# Narrower columns hold too few words to be read across.
LEAST_WIDTH = 28
_BETWEEN = " │ "


class Columns:
    """Two columns of plain text. A row is final when neither column can change it any more."""

    def __init__(self, console: Console, titles: tuple[str, str]) -> None:
        self._console = console
        self._width = column_width(console)
        self._live = LiveLines(console)
        self._num_printed = 0
        self._painter = Painter(self._paint)
        self.columns = (_Column(self._changed), _Column(self._changed))
        head = [self._wrapped(one_line(title), "bold") for title in titles]
        self._live.show([*self._rows(*head), self._rule()], [])

    def _changed(self) -> None:
        if all(column.is_closed for column in self.columns):
            self._painter.close()
        else:
            self._painter.changed()

    def _paint(self) -> None:
        texts = [self._wrapped(column.text) for column in self.columns]
        rows = self._rows(*texts)
        # Words are only ever added: all lines but the last of a column that goes on are final.
        settled = [
            len(rows) if column.is_closed else len(lines) - 1 for column, lines in zip(self.columns, texts, strict=True)
        ]
        num_final = max(min(settled), self._num_printed)
        self._live.show(rows[self._num_printed : num_final], rows[num_final:])
        self._num_printed = num_final

    def _wrapped(self, text: str, style: str = "") -> list[Line]:
        options = self._console.options.update(width=self._width)
        return self._console.render_lines(Text(text.strip("\n"), style=style), options, pad=True)

    def _rows(self, left: list[Line], right: list[Line]) -> list[Line]:
        blank: Line = [Segment(" " * self._width)]
        between = Segment(_BETWEEN, Style(dim=True))
        return [
            [
                *(left[i] if i < len(left) else blank),
                between,
                *(right[i] if i < len(right) else []),
            ]
            for i in range(max(len(left), len(right)))
        ]

    def _rule(self) -> Line:
        return [Segment("─" * (self._width + 1) + "┼" + "─" * (self._width + 1), Style(dim=True))]


class _Column:
    """One reply of two."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.text = ""
        self.is_closed = False

    def add(self, text: str) -> None:
        self.text += safe_text(text)
        self._changed()

    def think(self, text: str) -> None:
        """Answers are compared, not the way to them."""

    def close(self) -> None:
        self.is_closed = True
        self._changed()


class Stacked:
    """Two replies one below the other: the first as it comes, then what there is of the second, and its rest."""

    def __init__(self, file: IO[str], titles: tuple[str, str]) -> None:
        second = _Part(file, titles[1], None)
        first = _Part(file, titles[0], second)
        first.begin()
        self.parts = (first, second)


class _Part:
    """One reply of two; shown from `begin` on, which also shows what came before."""

    def __init__(self, file: IO[str], title: str, following: "_Part | None") -> None:
        self._file, self._title, self._following = file, title, following
        self._view: PlainView | None = None
        self._waiting = ""
        self._is_closed = False

    def begin(self) -> None:
        self._file.write(f"{one_line(self._title)}\n")
        self._view = PlainView(self._file)
        self._view.add(self._waiting)
        if self._is_closed:
            self.close()

    def add(self, text: str) -> None:
        if self._view is None:
            self._waiting += text
        else:
            self._view.add(text)

    def think(self, text: str) -> None:
        """Answers are compared, not the way to them."""

    def close(self) -> None:
        self._is_closed = True
        if self._view is not None:
            self._view.close()
            if self._following is not None:
                self._following.begin()


def column_width(console: Console) -> int:
    return (console.width - len(_BETWEEN)) // 2
