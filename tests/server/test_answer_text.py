"""`AnswerText.peek`: what would follow, asked without changing what does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import KINDS

from penstock_server.text.answer_text import AnswerText
from penstock_server.text.detokenizer import open_detokenizer
from penstock_server.text.tokenizer import Tokenizer

LOADED = {kind: Tokenizer(make(), {}) for kind, make in KINDS.items()}
token_ids = st.lists(st.integers(0, 420), max_size=12)


def fresh(kind: str, stop: list[str], min_tokens: int) -> AnswerText:
    return AnswerText(open_detokenizer(LOADED[kind].vocabulary), stop, min_tokens)


@pytest.mark.parametrize("kind", KINDS)
@given(
    before=token_ids,
    peeked=token_ids,
    after=token_ids,
    stop=st.lists(st.sampled_from(["e", "th", "wheel", " ", "\ufffd"]), max_size=2),
    min_tokens=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_peek(
    kind: str, before: list[int], peeked: list[int], after: list[int], stop: list[str], min_tokens: int
) -> None:
    """It is what an answer that did go on so would show, with what could still begin a stop string; and the answer
    that was asked goes on as one that never was."""
    asked, other, plain = (fresh(kind, stop, min_tokens) for _ in range(3))
    for text in (asked, other, plain):
        text.push(before)
    tentative = asked.peek(peeked)
    shown, is_stopped = other.push(peeked)
    if is_stopped:
        assert tentative == shown
    else:
        assert tentative.startswith(shown) and (shown + other.finish()).startswith(tentative)
    assert asked.push(after) == plain.push(after)
    assert asked.finish() == plain.finish() and asked.num_characters == plain.num_characters
