"""No character of a model can command a terminal."""

import unicodedata

import pytest

from penstock_chat.safe_text import encodable, one_line, safe_text


def test_no_control_character_is_left() -> None:
    everything = "".join(map(chr, range(0x3000)))
    left = {character for character in safe_text(everything) if unicodedata.category(character) == "Cc"}
    assert left == {"\t", "\n"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x9b2J", "\\u009b2J"),
        ("\x7f", "␡"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("one\u2028two", "one\ntwo"),
        ("\ud800", "\ufffd"),
        ("你好 é 👩‍👩‍👧 \t x\n", "你好 é 👩‍👩‍👧 \t x\n"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert safe_text(text) == shown
    assert "".join(map(safe_text, text)) == shown  # in pieces of a stream


def test_messages_are_one_short_line() -> None:
    assert one_line("a\n b\x1b\tc") == "a b␛ c"
    assert len(one_line("x" * 10_000)) == 500


def test_a_split_pair_of_surrogates_is_joined_and_a_lone_one_replaced() -> None:
    assert encodable("\ud83d\ude00 \ud83d") == "😀 \ufffd"
