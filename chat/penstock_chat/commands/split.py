"""Splits a line at its bars, those within JSON values left alone."""

import re

# A JSON string as a whole, or a bar.
_STRING_OR_BAR = re.compile(r'"(?:[^"\\]|\\.)*"|\|')


def split_bars(text: str, max_parts: int) -> list[str]:
    """The parts between bars, at most `max_parts`: the last one may hold further bars, and quotes that never end."""
    parts: list[str] = []
    begin = 0
    for match in _STRING_OR_BAR.finditer(text):
        if len(parts) == max_parts - 1:
            break
        if match[0] == "|":
            parts.append(text[begin : match.start()])
            begin = match.end()
    return [*parts, text[begin:]]
