"""Stop strings: what is let through never depends on how the text is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_server.text.stop_strings import StopStrings

letters = st.text("ab c", max_size=12)
stops = st.lists(st.text("ab c", min_size=1, max_size=4), max_size=3)


def visible(pieces: list[str], stop: list[str], *, is_included: bool = False) -> tuple[str, bool]:
    matcher = StopStrings(stop, is_included=is_included)
    shown = "".join(matcher.push(piece) for piece in pieces)
    return shown + matcher.release(), matcher.is_matched


def expected(text: str, stop: list[str], *, is_included: bool = False) -> tuple[str, bool]:
    """By definition: at each character, is a stop string complete?"""
    for end in range(len(text) + 1):
        ended = [one for one in stop if text[:end].endswith(one)]
        if ended:
            return text[: end if is_included else end - max(map(len, ended))], True
    return text, False


@pytest.mark.parametrize("is_included", [False, True])
@given(text=letters, stop=stops, cuts=st.lists(st.integers(0, 12)))
def test_any_cut_of_any_text(is_included: bool, text: str, stop: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert visible(pieces, stop, is_included=is_included) == expected(text, stop, is_included=is_included)


@given(text=letters, stop=stops)
def test_holds_back_only_what_could_begin_a_stop(text: str, stop: list[str]) -> None:
    matcher = StopStrings(stop)
    given_out = ""
    for end, character in enumerate(text, 1):
        given_out += matcher.push(character)
        if matcher.is_matched:
            break
        held = text[len(given_out) : end]
        assert not held or any(one.startswith(held) and one != held for one in stop)


@pytest.mark.parametrize(
    ("pieces", "stop", "shown", "is_matched"),
    [
        (["one ST", "OP two"], ["STOP"], "one ", True),
        (["one ST", "ART"], ["STOP"], "one START", False),
        (["aab"], ["ab"], "a", True),
        (["xab", "cd"], ["abcd", "bc"], "xa", True),
        (["xabcd"], ["abcd", "bc"], "xa", True),
        (["ab"], ["ab", "b"], "", True),
        (["grü", "ße"], ["üß"], "gr", True),
    ],
)
def test_examples(pieces: list[str], stop: list[str], shown: str, is_matched: bool) -> None:
    assert visible(pieces, stop) == (shown, is_matched)


def test_nothing_follows_a_match() -> None:
    matcher = StopStrings(["\n"])
    assert [matcher.push("a\nb"), matcher.push("c"), matcher.release()] == ["a", "", ""]
