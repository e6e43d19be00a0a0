"""What a result becomes: a section of Markdown with pictures. Deterministic: the same result gives the same bytes."""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.record import Record


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG, named without folder; `meaning` is for those who do not see it."""

    name: str
    meaning: str
    draw: Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Section:
    """A result's part of the page. `blocks` are paragraphs, tables and lists."""

    title: str
    blocks: Sequence[str]
    pictures: Sequence[Picture]


Renderer = Callable[[Record], Section]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *rows))


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(_wrap(f"- {line}", "  ") for line in lines)


def paragraph(text: str) -> str:
    return _wrap(text, "")


def several(count: int, noun: str) -> str:
    """As in "1 round" and "3 rounds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def ratio(spread: Record) -> str:
    """A ratio's median, with the least and the most in parentheses."""
    return f"{spread.number('median'):.2f}x ({spread.number('min'):.2f} to {spread.number('max'):.2f})"


def warnings(record: Record) -> list[str]:
    """What a reader has to know before the figures."""
    if not record.has("is_quiet") or record.flag("is_quiet"):
        return []
    return ["**The machine was not quiet: these figures say more about its neighbours than about us.**"]


def provenance(record: Record) -> str:
    """Which machine, software, commit and day the figures belong to."""
    machine = record.part("machine")
    packages = machine.part("packages")
    software = [f"Python {machine.text('python')}"]
    software += [f"{name} {packages.text(name)}" for name in ("torch", "transformers") if packages.has(name)]
    commit = f"commit `{record.text('commit')[:12]}`"
    if record.flag("dirty"):
        commit += " with changes"
    if record.has("is_quiet") and record.flag("is_quiet"):
        commit += ", on a quiet machine"
    cores = machine.count("cores")
    processor = f"{machine.text('processor')}, {several(cores, 'core')}"
    memory = f"{machine.number('memory') / 2**30:.0f} GiB"
    return f"Measured on {record.text('measured_at')[:10]}, {commit}: {processor}, {memory}; {', '.join(software)}."


def _wrap(text: str, indent: str) -> str:
    """Lines of at most 120 characters, except for code, which stays in one piece."""
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text)
    lines = textwrap.fill(whole, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")
