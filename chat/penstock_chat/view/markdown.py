"""Markdown as terminal lines, block by block.

HTML is shown as it was written, a link with its target, an image as its description: what a model wrote can be read,
and nothing of it is hidden. Its line breaks are kept.
"""

from dataclasses import dataclass
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.text import Text

from penstock_chat.safe_text import safe_text
from penstock_chat.view.live_lines import Line, trimmed

_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")


@dataclass(frozen=True, slots=True)
class Block:
    """A top-level block: a paragraph, a list, a table.

    Attributes:
        first_line: of the text that it begins on.
        may_reflow: its first lines still change while it grows.
    """

    tokens: tuple[Token, ...]
    first_line: int
    source: str
    may_reflow: bool

    def lines(self, console: Console) -> list[Line]:
        try:
            lines = _trimmed_lines(_Rendered(self.tokens), console)
        except Exception:  # Markdown can be combined in ways that the renderer fails on
            lines = []
        # Nothing comes of what is nested too deeply. The source can always be read.
        return lines or _trimmed_lines(Text(self.source), console)


def read_blocks(text: str) -> list[Block]:
    """The blocks of a safe text."""
    lines = text.split("\n")
    blocks: list[Block] = []
    tokens: list[Token] = []
    for token in _PARSER.parse(text):
        tokens.append(token)
        # A block ends with the token that closes it, or is a single token.
        if token.level == 0 and token.nesting <= 0:
            begin, end = tokens[0].map or [0, len(lines)]
            for part in tokens:
                _adapt(part)
            source = "\n".join(lines[begin:end])
            blocks.append(Block(tuple(tokens), begin, source, tokens[0].type == "table_open"))
            tokens = []
    return blocks


def block_lines(blocks: list[Block], console: Console) -> list[Line]:
    """The lines of blocks, with an empty one between two of them."""
    lines: list[Line] = []
    for i, block in enumerate(blocks):
        lines += [*([[]] if i else []), *block.lines(console)]
    return lines


def _trimmed_lines(content: RenderableType, console: Console) -> list[Line]:
    """The lines of a block without the empty ones that some bring around them."""
    lines = [trimmed(line) for line in console.render_lines(content, pad=False)]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return lines


def _adapt(token: Token) -> None:
    # An entity like &#x202e; becomes its character only here, after the text was made safe.
    token.content = safe_text(token.content)
    token.info = safe_text(token.info)
    if "href" in token.attrs:
        token.attrs["href"] = safe_text(str(token.attrs["href"]))
    if token.type == "softbreak":
        token.type = "hardbreak"
    elif token.type == "image":
        token.content = f"{token.content} ({safe_text(str(token.attrs.get('src', '')))})"
        token.type, token.tag, token.children = "text", "", None
    for child in token.children or ():
        _adapt(child)


class _LeftHeading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "left")


class _Fence(CodeBlock):
    """Code between its fences and without a margin, so that it can be copied. Colours are the terminal's own."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(f"```{self.lexer_name if self.lexer_name != 'text' else ''}", style="dim")
        code = str(self.text).rstrip("\n")
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)
        yield Text("```", style="dim")


class _Rendered(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "fence": _Fence,
        "code_block": _Fence,
    }

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = list(tokens)
