"""Compares output in which a model's text may differ: on a machine that adds numbers in another order than the one on
which the page was written, a near tie between two tokens may fall the other way.

JSON keeps its keys, in order, and the types of its values; of other lines only their being there is compared. What
cannot hold generated text is compared exactly everywhere: see `may_hold_generated_text`.
"""

import re
from collections.abc import Sequence

from executed_pages.matching import ANY, lines_match, sequences_match

# Commands that ask a model for text.
_GENERATING = re.compile(
    r"""/completions|"(?:prompt|messages)":|\bpenstock chat\b|\bmake (?:chat|bench)\b"""
    r"""|\bpython3? (?:-c|-m json\.tool|\S*\.py)\b"""
)

_TOKEN = re.compile(
    r"""(?P<any>\.\.\.)|(?P<string>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
    r"""|(?P<word>true|false|null)|(?P<mark>[\[\]{},:])"""
)


def may_hold_generated_text(command: str, shown: Sequence[str]) -> bool:
    """Whether a command's output depends on what a model says. An error message never does."""
    is_error = any('"error"' in line for line in shown)
    return not is_error and _GENERATING.search(command) is not None


def lines_match_loosely(shown: Sequence[str], seen: Sequence[str]) -> bool:
    """Whether what a page shows fits the output of another machine."""
    if lines_match(shown, seen):
        return True
    shown_json, seen_json = _is_json(shown), _is_json(seen)
    if shown_json != seen_json:
        return False
    if not shown_json:
        return bool([line for line in seen if line.strip()]) == bool([line for line in shown if line.strip()])
    # How many events a text is cut into depends on the text: of a stream, each kind of event is compared once.
    return _matches_shape(_events(shown), _events(seen))


def loose_chat(text: str) -> str:
    """A chat block in which every reply may have other words: what stands between a typed line and the line that counts
    the reply's tokens."""
    loose: list[str] = []
    since_typed = 0
    for line in text.splitlines():
        if line.startswith("> "):
            loose.append(line)
            since_typed = len(loose)
        elif "tokens/s" in line:
            loose[since_typed:] = [ANY, f"{ANY} tokens {ANY}"]
            since_typed = len(loose)
        else:
            loose.append(line)
    return "".join(line + "\n" for line in loose)


def _is_json(lines: Sequence[str]) -> bool:
    return any(re.search(r'[{,\[]\s*"[^"]+"\s*:|^\s*"[^"]+"\s*:|^\s*[\[{]\s*$', line) for line in lines)


def _events(lines: Sequence[str]) -> list[list[str]]:
    """The shapes of the events of a stream, each once in a row; of anything else, one shape of the whole."""
    data = [line for line in lines if line.startswith("data:")]
    shapes = [_shape(line) for line in data] if data else [_shape("\n".join(lines))]
    return [shape for i, shape in enumerate(shapes) if i == 0 or shape != shapes[i - 1]]


def _shape(text: str) -> list[str]:
    shape = []
    for token in _TOKEN.finditer(text):
        if token["any"]:
            shape.append(ANY)
        elif token["string"]:
            shape.append(token["string"] + ":" if token["colon"] else "a string")
        elif token["number"]:
            shape.append("a number")
        else:
            shape.append(token[0])
    return shape


def _matches_shape(shown: Sequence[Sequence[str]], seen: Sequence[Sequence[str]]) -> bool:
    if len(shown) == 1 and len(seen) == 1:
        return _fits(shown[0], seen[0])
    # Events that the page leaves out have nothing to be compared with; those that it shows must all have come.
    return all(any(_fits(shape, other) for other in seen) for shape in shown)


def _fits(shown: Sequence[str], seen: Sequence[str]) -> bool:
    return sequences_match(shown, seen, lambda token: token == ANY, lambda a, b: a == b)
