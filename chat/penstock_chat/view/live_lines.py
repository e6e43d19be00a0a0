"""`LiveLines`: the end of the terminal's text, whose last lines can still change.

Lines that are final are printed once and belong to the scrollback; only the tail is ever erased, and it never is taller
than the screen, since what has scrolled off cannot be erased.
"""

from rich.console import Console
from rich.segment import ControlType, Segment, Segments

Line = list[Segment]


class LiveLines:
    """A tail of changing lines at the end of `console`, which must be a terminal.

    Between two calls nothing else may be printed, unless the tail is empty.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tail_widths: list[int] = []

    @property
    def max_tail(self) -> int:
        """Rows that a tail may have. The cursor is in the row below it, and one row stays above it: some terminals take
        an erasure from the first row on as one of the whole screen, and put that into the scrollback (tmux 3.3)."""
        return max(self._console.height - 2, 1)

    def show(self, final: list[Line], tail: list[Line]) -> None:
        """Print `final` for good, and `tail`, cut at the screen's height, in place of the tail before."""
        tail = tail[: self.max_tail]
        segments = [_control(f"\x1b[{rows}A\r" if (rows := self._num_rows()) else "")]
        for line in [*final, *tail]:
            # Row by row, so that nothing blinks; before the text, as after it the cursor may stand on its last column.
            segments += [_control("\x1b[K"), *line, Segment.line()]
        segments.append(_control("\x1b[J"))
        self._console.print(Segments(segments), end="", soft_wrap=True)
        self._tail_widths = [Segment.get_line_length(line) for line in tail]

    def _num_rows(self) -> int:
        """Rows of the tail; a terminal that became narrower since it was printed has wrapped its lines."""
        width = self._console.width
        return sum(max(-(-length // width), 1) for length in self._tail_widths)


def trimmed(line: Line) -> Line:
    """The line without the spaces that fill it up to the width: nobody wants to copy them."""
    line = list(line)
    while line and not line[-1].text.rstrip() and (line[-1].style is None or line[-1].style.bgcolor is None):
        line.pop()
    if line and (line[-1].style is None or line[-1].style.bgcolor is None):
        line[-1] = Segment(line[-1].text.rstrip(" "), line[-1].style)
    return line


def _control(codes: str) -> Segment:
    """Codes that move the cursor or erase, and take no room."""
    return Segment(codes, None, [(ControlType.CURSOR_UP, 0)])
