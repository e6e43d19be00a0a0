"""Text from outside (a model, a server, a file) as text that a terminal can be given.

A model can be made to write escape sequences, and a terminal obeys them: they move the cursor, hide lines, set titles,
and in some terminals answer as if the user had typed. So nothing is printed that did not go through here. What is kept
in the conversation, sent back and saved stays as it was.
"""

import re

# C0 but for tab and line feed, delete, C1, line and paragraph separators, and what turns the direction of writing
# (Trojan Source, CVE-2021-42574). Lone surrogates cannot be encoded at all.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe_text(text: str) -> str:
    """The text with every character that a terminal could obey shown instead, like `␛` for escape.

    Works character by character, so that pieces of a stream may be given one after another. A carriage return goes
    without a sign: it would overwrite the line, and with a line feed it says nothing.
    """
    return _UNSAFE.sub(_shown, text)


def one_line(text: str, max_characters: int = 500) -> str:
    """Safe text without line breaks, cut where it gets too long for a message."""
    line = " ".join(safe_text(text).split())
    return line if len(line) <= max_characters else line[: max_characters - 3] + "..."


def encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can carry and UTF-8 cannot, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0x0D:
        return ""
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return "\n" if code in (0x2028, 0x2029) else f"\\u{code:04x}"
