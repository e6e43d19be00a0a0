"""The bytes of every token: together they are the text, for every kind of tokenizer that grammars can work with."""

from collections.abc import Callable

import pytest
import tokenizers
from small_tokenizers import CORPUS, byte_fallback, byte_level, metaspace, word_level

from penstock_server.serve import DEMO_MODEL
from penstock_server.text.token_bytes import token_bytes
from penstock_server.text.tokenizer import Tokenizer


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_together_they_are_the_text(make: Callable[[], tokenizers.Tokenizer]) -> None:
    """Whatever the text; a tokenizer that puts a space before a text has it in its first token."""
    tokenizer = Tokenizer(make(), {})
    vocabulary = token_bytes(tokenizer)
    assert vocabulary is not None and len(vocabulary.tokens) == tokenizer.num_ids
    for text in (*CORPUS, "你好 🙂"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        written = b"".join(vocabulary.tokens[i] for i in ids).decode()
        assert written == text if make is byte_level else written.removeprefix(" ") == text


def test_special_tokens_are_no_text() -> None:
    """They have a name and no bytes."""
    tokenizer = Tokenizer(byte_level(), {})
    vocabulary = token_bytes(tokenizer)
    assert vocabulary is not None
    named = dict(vocabulary.special)
    assert set(named) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert all(vocabulary.tokens[i] == b"" for i in named.values())
    assert vocabulary.tokens.count(b"") == 3


def test_pieces_with_a_space_before() -> None:
    """Metaspace: the mark is a space."""
    tokenizer = Tokenizer(metaspace(), {})
    vocabulary = token_bytes(tokenizer)
    assert vocabulary is not None
    text = "the wheel turns"
    assert b"".join(vocabulary.tokens[i] for i in tokenizer.encode(text)).decode().strip() == text


def test_words_joined_by_spaces_have_no_bytes_of_their_own() -> None:
    """Two tokens' text has a space that neither holds: no grammar can be kept."""
    assert token_bytes(Tokenizer(word_level(), {})) is None


def test_a_model_has_more_scores_than_tokens_or_fewer() -> None:
    """What the tokenizer does not know has no bytes; what the model does not score is left out."""
    vocabulary = token_bytes(Tokenizer.load(DEMO_MODEL))
    assert vocabulary is not None
    num_tokens = len(vocabulary.tokens)
    assert vocabulary.resized(num_tokens + 3).tokens[-3:] == (b"", b"", b"")
    fewer = vocabulary.resized(2)
    assert fewer.tokens == vocabulary.tokens[:2] and all(i < 2 for _, i in fewer.special)
