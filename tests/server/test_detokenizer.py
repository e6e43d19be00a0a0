"""Streamed text is exactly decoded text, for every kind of tokenizer and any token ids."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import CORPUS, KINDS, byte_fallback, byte_level
from tokenizers import decoders, models

from penstock_server.text.detokenizer import open_detokenizer
from penstock_server.text.errors import TokenizerError
from penstock_server.text.tokenizer import Tokenizer

TOKENIZERS = {kind: make() for kind, make in KINDS.items()}
LOADED = {kind: Tokenizer(tokenizer, {}) for kind, tokenizer in TOKENIZERS.items()}

# Beyond every vocabulary above, as the padded rows of an embedding are.
token_ids = st.lists(st.integers(0, 420), max_size=40)
kinds = pytest.mark.parametrize("kind", KINDS)


def streamed(kind: str, ids: list[int], *, shows_special: bool = False) -> tuple[list[str], str]:
    detokenizer = open_detokenizer(LOADED[kind].showing(None if shows_special else frozenset()))
    return [detokenizer.push(token_id) for token_id in ids], detokenizer.finish()


@kinds
@pytest.mark.parametrize("shows_special", [False, True])
@given(ids=token_ids)
@settings(max_examples=150, deadline=None)
def test_any_tokens(kind: str, shows_special: bool, ids: list[int]) -> None:
    deltas, rest = streamed(kind, ids, shows_special=shows_special)
    assert "".join(deltas) + rest == TOKENIZERS[kind].decode(ids, skip_special_tokens=not shows_special)


@kinds
@pytest.mark.parametrize("text", CORPUS)
def test_texts_at_every_cut(kind: str, text: str) -> None:
    ids = TOKENIZERS[kind].encode(text).ids
    for end in range(len(ids) + 1):
        deltas, rest = streamed(kind, ids[:end])
        assert "".join(deltas) + rest == TOKENIZERS[kind].decode(ids[:end])


@given(ids=st.lists(st.integers(3, 258), max_size=12))
@settings(max_examples=150, deadline=None)
def test_byte_runs(ids: list[int]) -> None:
    """`tokenizers` replaces every byte of a run that is not UTF-8 as a whole, also the good ones."""
    deltas, rest = streamed("byte_fallback", ids)
    assert "".join(deltas) + rest == TOKENIZERS["byte_fallback"].decode(ids)


@given(ids=token_ids)
@settings(max_examples=100, deadline=None)
def test_byte_level_holds_back_no_more_than_one_character(ids: list[int]) -> None:
    """Or two replacement characters: of bytes that begin like a surrogate Python waits for the third. Random examples
    met that once in a while."""
    detokenizer = open_detokenizer(LOADED["byte_level"].vocabulary)
    given_out = ""
    for i, token_id in enumerate(ids):
        given_out += detokenizer.push(token_id)
        decoded = TOKENIZERS["byte_level"].decode(ids[: i + 1])
        num_held = 2 if decoded.endswith("\ufffd\ufffd") else 1
        assert decoded.startswith(given_out) and len(decoded) - len(given_out) <= num_held


def test_no_replacement_character_before_its_time() -> None:
    tokenizer = byte_level(260)  # no merges: one token a byte
    ids = tokenizer.encode("🙂").ids
    assert len(ids) == 4
    detokenizer = open_detokenizer(Tokenizer(tokenizer, {}).vocabulary)
    assert [detokenizer.push(token_id) for token_id in ids] == ["", "", "", "🙂"]
    assert [detokenizer.push(ids[0]), detokenizer.finish()] == ["", "\ufffd"]


@given(ids=token_ids, prompt=st.sampled_from(CORPUS))
@settings(max_examples=50, deadline=None)
def test_a_continuation_keeps_its_leading_space(ids: list[int], prompt: str) -> None:
    """A completion's text is what the prompt's text lacks: "is" + " Paris", where decoding alone gives "Paris"."""
    tokenizer = byte_fallback()
    prompt_ids = tokenizer.encode(prompt + " the").ids  # ends in a piece, so that no byte run goes across
    detokenizer = open_detokenizer(LOADED["byte_fallback"].vocabulary, is_continuation=True)
    text = "".join(detokenizer.push(token_id) for token_id in ids) + detokenizer.finish()
    assert tokenizer.decode(prompt_ids) + text == tokenizer.decode(prompt_ids + ids)


def test_own_bytes_and_labels() -> None:
    tokenizer = LOADED["byte_level"]
    ids = tokenizer.encode("é🙂 the")
    assert b"".join(map(tokenizer.own_bytes, ids)) == "é🙂 the".encode()
    broken = LOADED["byte_fallback"].encode("🙂", add_special_tokens=False)[1]
    assert LOADED["byte_fallback"].own_bytes(broken) == b"\xf0"
    assert LOADED["byte_fallback"].label(broken) == "bytes:\\xf0"
    assert tokenizer.own_bytes(499) == b""


def test_an_unknown_decoder_is_refused_by_name() -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.decoder = decoders.CTC()
    with pytest.raises(TokenizerError, match="CTC"):
        Tokenizer(tokenizer, {})
