"""What a terminal shows while replies come, by a small model of one that knows the codes we send and no other."""

import io
import re
from collections.abc import Iterator

import pytest
from chat_parts import run
from rich.console import Console

from penstock_chat.conversation import Exchange, Reply, Setup
from penstock_chat.errors import Broken
from penstock_chat.receive import Figures, Received
from penstock_chat.view.columns import Columns
from penstock_chat.view.console_screen import ConsoleScreen
from penstock_chat.view.figures import figures_line
from penstock_chat.view.markdown_view import MarkdownView

WIDTH, HEIGHT = 40, 12


class Glass(io.StringIO):
    """A terminal, with a prompt in its first row. Too long a row fails: ours are never left to it to wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[str] = []
        self.rows = ["> hi", ""]
        self.row = 1

    def write(self, text: str) -> int:
        for code, character in re.findall(r"(\x1b\[[0-9;]*[A-Za-z])|([\s\S])", text):
            self._obey(code) if code else self._put(character)
        return len(text)

    def _obey(self, code: str) -> None:
        if code.endswith("A"):
            self.row -= int(code[2:-1])
            assert self.row >= 0, "what has scrolled off cannot be reached"
        elif code == "\x1b[K":
            self.rows[self.row] = ""
        elif code == "\x1b[J":
            assert self.row > 0, "erases the whole screen"
            del self.rows[self.row + 1 :]
            self.rows[self.row] = ""
        else:
            assert code.endswith("m"), code

    def _put(self, character: str) -> None:
        if character == "\n":
            self.row += 1
            if self.row == len(self.rows):
                self.rows.append("")
            if len(self.rows) > HEIGHT:
                self.gone.append(self.rows.pop(0))
                self.row -= 1
        elif character != "\r":
            self.rows[self.row] += character
            assert len(self.rows[self.row]) <= WIDTH

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in [*self.gone, *self.rows][1:])


def console_on(glass: io.StringIO, *, is_terminal: bool = True) -> Console:
    return Console(
        file=glass,
        force_terminal=is_terminal,
        width=WIDTH,
        height=HEIGHT,
        highlight=False,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
    )


def pieces(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


def shown(text: str, size: int, thought: str = "") -> str:
    """What is on the terminal after a reply that came in pieces, painted after each of them."""
    glass = Glass()

    async def reply() -> None:
        view = MarkdownView(console_on(glass))
        if thought:
            view.think(thought)
            view._paint()
        for piece in pieces(text, size):
            view.add(piece)
            view._paint()
        view.close()

    run(reply())
    return glass.text()


MARKDOWN = """# Title

A paragraph with **bold** words and a line
break, long enough to be wrapped.

1. one
2. two
   - inner
3. three

> quoted

```python
def f():
    return 1


print(f())
```

| a | b |
|---|---|
| 1 | a long cell |

#hashtag
---
<b>kept</b> [link](http://x.example)
"""

TERMINAL = """Title

A paragraph with bold words and a line
break, long enough to be wrapped.

 1 one
 2 two
    • inner
 3 three

▌ quoted

```python
def f():
    return 1


print(f())
```

 a  b
 ──────────────
 1  a long cell

#hashtag

<b>kept</b> link (http://x.example)
"""


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_markdown_in_pieces_of_any_size_is_the_same(size: int) -> None:
    assert shown(MARKDOWN, size) == TERMINAL


@pytest.mark.parametrize("size", [7, 100_000])
@pytest.mark.parametrize("block", ["{}\n", "- {}\n", "{}\n\n", "> {}\n"])
def test_a_reply_taller_than_the_screen_is_whole_in_the_scrollback(block: str, size: int) -> None:
    text = "".join(block.format(f"line {i}") for i in range(40))
    assert re.findall(r"line (\d+)", shown(text, size)) == [str(i) for i in range(40)]


@pytest.mark.parametrize("size", [7, 100_000])
def test_a_table_taller_than_the_screen(size: int) -> None:
    """Its first rows get wider with its last ones, so that none is printed before the end."""
    rows = "".join(f"| line {i} | {'x' * i} |\n" for i in range(20))
    assert re.findall(r"line (\d+)", shown(f"| a | b |\n|---|---|\n{rows}\nend", size)) == [str(i) for i in range(20)]


def test_code_taller_than_the_screen() -> None:
    code = "\n".join(f"x{i} = {i}" for i in range(40))
    assert shown(f"```python\n{code}\n```\nend", 5) == f"```python\n{code}\n```\n\nend\n"


def test_thoughts_come_first() -> None:
    assert shown("Yes.", 2, thought="Hm,\nlet me see.") == "Hm,\nlet me see.\n\nYes.\n"
    assert shown("", 2, thought="Hm.") == "Hm.\n\n"


def test_an_empty_reply_shows_nothing() -> None:
    assert shown("", 1) == ""


HOSTILE = (
    "\x1b]0;owned\x07 \x1b[2J \x9b31m &#27;[31m &#x202e;x `\x1b[1m` [a](http://x/\x1b[5m) ![\x1b](\x1b)\n\n"
    "```\x1b[3m\n\x1b[4m\n```"
)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_nothing_hostile_gets_through(size: int) -> None:
    """`Glass` fails on every code but our own."""
    text = shown(HOSTILE, size, thought=HOSTILE)
    assert "owned" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


ODD = ["[![a](b)](c)", "![](x)", "[x]: y", "- [ ] a", "|", "*" * 300, "> " * 300, "- " * 100 + "x", "[" * 300]


@pytest.mark.parametrize("text", ODD)
def test_odd_markdown_is_shown_somehow(text: str) -> None:
    assert shown(text, 9).strip()


def columns_shown(left: str, right: str, size: int) -> str:
    glass = Glass()

    async def replies() -> None:
        both = Columns(console_on(glass), ("1: cold", "2: hot"))
        first, second = both.columns
        for piece in pieces(left, size):
            first.add(piece)
            both._paint()
        first.close()
        for piece in pieces(right, size * 2):
            second.add(piece)
            both._paint()
        second.close()

    run(replies())
    return glass.text()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_columns(size: int) -> None:
    assert columns_shown("One two three four five six.", "Uno.\n\n\x1bdos", size) == (
        "1: cold            │ 2: hot\n"
        "───────────────────┼───────────────────\n"
        "One two three four │ Uno.\n"
        "five six.          │\n"
        "                   │ ␛dos\n"
    )


@pytest.mark.parametrize("size", [5, 1000])
def test_columns_taller_than_the_screen(size: int) -> None:
    text = "\n".join(f"line {i}" for i in range(50))
    found = re.findall(r"line (\d+) +│ line (\d+)", columns_shown(text, text, size))
    assert found == [(str(i), str(i)) for i in range(50)]


def screen_on(*, is_terminal: bool = False, width: int = WIDTH) -> tuple[ConsoleScreen, io.StringIO]:
    out = io.StringIO()
    console = console_on(out, is_terminal=is_terminal)
    console.width = width
    return ConsoleScreen(console), out


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_without_room_one_is_below_the_other(order: tuple[int, int]) -> None:
    screen, out = screen_on(is_terminal=True)
    views = screen.replies(("cold", "hot"))
    for i in order:
        views[i].add(f"reply {i}")
        views[i].think("not shown")
    for i in order:
        views[i].close()
    assert out.getvalue() == "1: cold\nreply 0\n2: hot\nreply 1\n"


def test_wide_terminals_have_columns() -> None:
    async def kinds() -> tuple[str, str]:
        wide, _ = screen_on(is_terminal=True, width=100)
        piped, _ = screen_on(width=100)
        return type(wide.replies(("a", "b"))[0]).__name__, type(piped.replies(("a", "b"))[0]).__name__

    assert run(kinds()) == ("_Column", "_Part")


def test_a_pipe_gets_plain_text_that_ends_its_line() -> None:
    screen, out = screen_on()
    view = screen.reply()
    for piece in ("**bo", "ld**\r\n", "\x1b[31m", "end"):
        view.add(piece)
    view.think("not shown")
    view.close()
    assert out.getvalue() == "**bold**\n␛[31mend\n"


def test_text_from_elsewhere_is_safe_everywhere() -> None:
    screen, out = screen_on(is_terminal=True)
    evil = "\x1b]0;x\x07"
    screen.note(evil)
    screen.error(evil)
    screen.table([(evil, evil)])
    reply = Reply(evil, Setup(evil), 1, evil, "stopped")
    screen.exchange(1, Exchange(evil, reply))
    screen.figures(Received(reply, Figures()), evil)
    assert "\x1b]" not in out.getvalue() and "\x07" not in out.getvalue()


SETUP = Setup("m")


@pytest.mark.parametrize(
    ("received", "line"),
    [
        (
            Received(Reply("x", SETUP, 7, "stop"), Figures(24, 23, 0.05, 0.46)),
            "24 tokens · 50.0 tokens/s · first after 0.05 s · stop · seed 7",
        ),
        (
            Received(Reply("x", SETUP, None, None, "stopped"), Figures(None, 11, 0.1, 1.0)),
            "11 chunks · 10.0 chunks/s · first after 0.10 s · stopped",
        ),
        (Received(Reply("x", SETUP, None, "length"), Figures(1, 1, 0.1)), "1 token · first after 0.10 s · length"),
        (Received(Reply("x", SETUP, 1, None, "broken"), Figures(), Broken("x")), "broken off · seed 1"),
        (Received(None, Figures()), "stopped"),
        (Received(None, Figures(), Broken("x")), ""),
        (Received(Reply("", SETUP), Figures()), ""),
    ],
)
def test_figures(received: Received, line: str) -> None:
    assert figures_line(received) == line
