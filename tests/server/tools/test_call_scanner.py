"""A call read in pieces is the call that json reads whole."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_server.text.pieces import CallArguments, CallBegun, Piece
from penstock_server.tools.call_scanner import CallScanner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=3)


def scanned(text: str, cuts: list[int]) -> tuple[CallScanner, list[Piece], str]:
    """What was told, and what the scanner did not take."""
    scanner, told, rest = CallScanner(2), [], ""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(text)}), len(text)]
    for a, b in pairwise(edges):
        if scanner.is_done or scanner.is_broken:
            rest += text[a:b]
            continue
        count, pieces = scanner.consume(text[a:b])
        told += pieces
        rest += text[a:b][count:]
    return scanner, told, rest


@given(
    arguments=OBJECTS,
    key=st.sampled_from(["arguments", "parameters"]),
    name=st.text(min_size=1, max_size=8),
    other=VALUES,
    is_first=st.booleans(),
    indent=st.sampled_from([None, 2]),
    escapes=st.booleans(),
    cuts=st.lists(st.integers(0, 300)),
)
@settings(max_examples=200, deadline=None)
def test_any_call(
    arguments: dict[str, Any],
    key: str,
    name: str,
    other: Any,
    is_first: bool,
    indent: int | None,
    escapes: bool,
    cuts: list[int],
) -> None:
    pairs = [("name", name), ("id", other), (key, arguments)]
    whole = dict(pairs if is_first else reversed(pairs))
    text = json.dumps(whole, indent=indent, ensure_ascii=escapes)
    scanner, told, rest = scanned(text + " after", cuts)
    assert scanner.is_done and rest == " after"
    assert told[0] == CallBegun(2, name)
    written = "".join(piece.text for piece in told[1:] if isinstance(piece, CallArguments))
    assert len(told[1:]) == sum(isinstance(piece, CallArguments) for piece in told)
    assert json.loads(written) == arguments and written in text


@pytest.mark.parametrize(
    "text", ["x", "[", '{"name": 3}', '{"name": ""}', "{1: 2}", '{"a" 1}', '{"a": 1 2}', "{,}", '{"name": "\\x"}']
)
def test_what_is_no_call(text: str) -> None:
    scanner, told, _ = scanned(text, [])
    assert scanner.is_broken and not told


def test_an_object_without_a_name_ends_without_a_call() -> None:
    scanner, told, _ = scanned('{"arguments": {"x": 1}}', [5, 9])
    assert scanner.is_done and scanner.name is None and not told
