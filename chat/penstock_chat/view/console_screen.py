"""`ConsoleScreen`: a `Screen` on a rich console. The one place where text from outside becomes output, made safe here
or in the views that it makes."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock_chat.conversation import Exchange
from penstock_chat.receive import Received, ReplyView
from penstock_chat.safe_text import one_line, safe_text
from penstock_chat.view.columns import LEAST_WIDTH, Columns, Stacked, column_width
from penstock_chat.view.figures import figures_line
from penstock_chat.view.plain_view import PlainView


class ConsoleScreen:
    """
    Args:
        is_plain: replies as they come, without Markdown; a console that is no terminal has no other way.
    """

    def __init__(self, console: Console, *, is_plain: bool = False) -> None:
        self._console = console
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._is_plain = is_plain or not self._is_live

    def note(self, text: str) -> None:
        self._console.print(Text(safe_text(text), style="dim"))

    def error(self, text: str) -> None:
        self._console.print(Text(one_line(text), style="red"))

    def figures(self, received: Received, title: str = "") -> None:
        line = figures_line(received)
        if line:
            self.note(one_line(f"{title}: {line}" if title else line))

    def exchange(self, number: int, exchange: Exchange) -> None:
        self._console.print(Text("> ", style="bold") + Text(safe_text(exchange.question)))
        self._answer(exchange.reply.text)
        reply = exchange.reply
        parts = [
            f"reply {number}",
            reply.setup.model,
            reply.finish_reason or "",
            "" if reply.ending == "finished" else reply.ending,
        ]
        parts += [f"seed {reply.seed}"] if reply.seed is not None else []
        self.note(one_line(" · ".join(part for part in parts if part)))

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column()
        for name, meaning in rows:
            grid.add_row(Text(safe_text(name), style="bold"), Text(safe_text(meaning)))
        self._console.print(grid)

    def reply(self) -> ReplyView:
        if self._is_plain:
            return PlainView(self._console.file)
        # Loads a parser and a highlighter, which nothing needs before the first reply.
        from penstock_chat.view.markdown_view import MarkdownView

        return MarkdownView(self._console)

    def replies(self, titles: tuple[str, str]) -> tuple[ReplyView, ReplyView]:
        titles = (f"1: {titles[0]}", f"2: {titles[1]}")
        if self._is_live and column_width(self._console) >= LEAST_WIDTH:
            return Columns(self._console, titles).columns
        return Stacked(self._console.file, titles).parts

    def _answer(self, text: str) -> None:
        if self._is_plain:
            self._console.print(Text(safe_text(text)))
            return
        from rich.segment import Segment, Segments

        from penstock_chat.view.markdown import block_lines, read_blocks

        lines = block_lines(read_blocks(safe_text(text)), self._console)
        self._console.print(Segments([part for line in lines for part in [*line, Segment.line()]]), end="")
