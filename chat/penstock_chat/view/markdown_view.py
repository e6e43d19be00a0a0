"""`MarkdownView`: a reply as Markdown while it comes. Finished blocks are printed for good, the last one is live."""

from rich.console import Console
from rich.text import Text

from penstock_chat.safe_text import safe_text
from penstock_chat.view.flow import Flow
from penstock_chat.view.live_lines import LiveLines, trimmed
from penstock_chat.view.markdown import Block, block_lines, read_blocks
from penstock_chat.view.painter import Painter


class MarkdownView:
    """One reply in a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._flow = Flow(LiveLines(console))
        self._text = ""  # what is not final yet, safe
        self._thought = ""
        self._is_closed = False
        self._painter = Painter(self._paint)

    def add(self, text: str) -> None:
        self._text += safe_text(text)
        self._painter.changed()

    def think(self, text: str) -> None:
        if self._text:
            # Thought between two parts of an answer: the first part is done.
            self._flow.show([*block_lines(read_blocks(self._text), self._console), []], [])
            self._text = ""
        self._thought += safe_text(text)
        self._painter.changed()

    def close(self) -> None:
        self._is_closed = True
        self._painter.close()

    def _paint(self) -> None:
        if self._thought:
            self._paint_thought()
        blocks = read_blocks(self._text)
        if self._is_closed:
            self._flow.show(block_lines(blocks, self._console), [])
            return
        # Whether a line that is not complete begins a new block cannot be said yet: `#` may become `#1`.
        complete = self._text[: self._text.rfind("\n") + 1]
        settled = read_blocks(complete)
        finished: list[Block] = []
        if len(settled) > 1:
            begin = settled[-1].first_line
            finished = [block for block in blocks if block.first_line < begin]
            blocks = [block for block in blocks if block.first_line >= begin]
            self._text = "\n".join(self._text.split("\n")[begin:])
        final = [*block_lines(finished, self._console), []] if finished else []
        may_reflow = any(block.may_reflow for block in blocks)
        self._flow.show(final, block_lines(blocks, self._console), may_reflow=may_reflow)

    def _paint_thought(self) -> None:
        """Thoughts come before the answer, dim and plain."""
        text = Text(self._thought.strip("\n"), style="dim italic")
        lines = [trimmed(line) for line in self._console.render_lines(text, pad=False)]
        if self._text or self._is_closed:
            self._flow.show([*lines, []], [])
            self._thought = ""
        else:
            self._flow.show([], lines)
