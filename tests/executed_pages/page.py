"""`Page`: a Markdown page as its fenced blocks, each with its place. What stands between the blocks is left out."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_FENCE = re.compile(r"(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<kind>.*)")


class PageError(Exception):
    """A page cannot be read; the message begins with its place."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `kind` is its info string; `line` is the number of its first line of content."""

    kind: str
    lines: tuple[str, ...]
    line: int

    @property
    def text(self) -> str:
        return "".join(line + "\n" for line in self.lines)


@dataclass(frozen=True, slots=True)
class Page:
    """A page's path, its name for people, its text and its blocks in order."""

    path: Path
    name: str
    text: str
    blocks: tuple[Block, ...]


def all_pages() -> list[Path]:
    """Every page whose blocks are executed."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def read_page(path: Path) -> Page:
    """
    Raises:
        PageError: a fence is never closed.
    """
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    text = path.read_text(encoding="utf-8")
    return Page(path, name, text, tuple(_blocks(text.splitlines(), name)))


def _blocks(lines: list[str], name: str) -> list[Block]:
    blocks = []
    at = 0
    while at < len(lines):
        opening = _FENCE.fullmatch(lines[at])
        at += 1
        if opening is None:
            continue
        begin = at
        while at < len(lines) and not _closes(lines[at], opening["marks"]):
            at += 1
        if at == len(lines):
            raise PageError(f"{name}:{begin}: this block is never closed")
        content = tuple(line.removeprefix(opening["indent"]) for line in lines[begin:at])
        blocks.append(Block(opening["kind"].strip(), content, begin + 1))
        at += 1
    return blocks


def _closes(line: str, marks: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(marks) and set(bare) == {marks[0]}
