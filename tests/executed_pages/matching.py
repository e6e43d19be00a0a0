"""Compares the output that a page shows with the one that was seen. `...` alone on a line stands for any number of
lines, within a line for any characters; all else must be equal, but for blanks at the ends of lines."""

import difflib
from collections.abc import Callable, Sequence
from typing import TypeVar

ANY = "..."

T = TypeVar("T")


def output_lines(output: str) -> tuple[str, ...]:
    """Output as lines, without the blank ones at its end."""
    lines = [line.rstrip() for line in output.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def lines_match(shown: Sequence[str], seen: Sequence[str]) -> bool:
    """Whether what a page shows fits the output."""
    shown = [line.rstrip() for line in shown]
    while shown and not shown[-1]:
        shown.pop()
    return sequences_match(shown, seen, lambda line: line.strip() == ANY, line_matches)


def line_matches(shown: str, seen: str) -> bool:
    """Whether one shown line fits one line of the output."""
    first, *rest = shown.split(ANY)
    if not rest:
        return shown == seen
    *middle, last = rest
    if len(first) + len(last) > len(seen) or not seen.startswith(first) or not seen.endswith(last):
        return False
    at, end = len(first), len(seen) - len(last)
    for piece in middle:
        found = seen.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def sequences_match(
    shown: Sequence[T], seen: Sequence[T], is_any: Callable[[T], bool], fits: Callable[[T, T], bool]
) -> bool:
    """Whether `shown`, in which some items stand for any number of items, fits `seen`. Quadratic at worst."""
    i = j = 0
    star, resume = -1, 0
    while j < len(seen):
        if i < len(shown) and is_any(shown[i]):
            star, resume = i, j
            i += 1
        elif i < len(shown) and fits(shown[i], seen[j]):
            i, j = i + 1, j + 1
        elif star >= 0:
            resume += 1
            i, j = star + 1, resume
        else:
            return False
    return all(is_any(item) for item in shown[i:])


def with_wildcards_of(shown: Sequence[str], seen: Sequence[str]) -> list[str]:
    """The output with each line that a shown line with `...` fits written as that line."""
    patterns = [line for line in shown if ANY in line and line.strip() != ANY]
    return [next((pattern for pattern in patterns if line_matches(pattern, line)), line) for line in seen]


def difference(shown: Sequence[str], seen: Sequence[str], most_lines: int = 60) -> str:
    """For people: lines that only the page has begin with `-`, those that only the output has with `+`."""
    told = [line.rstrip("\n") for line in difflib.ndiff([*shown], with_wildcards_of(shown, seen)) if line[0] != "?"]
    left_out = len(told) - most_lines
    return "\n".join(told[:most_lines] + ([f"  ({left_out} more lines)"] if left_out > 0 else []))
