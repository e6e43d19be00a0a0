"""Where each token's part of a text begins: the parts are what the tokens wrote, whatever wrote them.

The oracle is `tokenizers` itself: the spans that it gives each token, and what it decodes the first so many tokens to.
"""

from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import KINDS, byte_fallback, byte_level
from tokenizers import normalizers, pre_tokenizers, processors

from penstock_server.text.codec import TextCodec
from penstock_server.text.token_places import place_text, place_tokens
from penstock_server.text.tokenizer import Tokenizer

TOKENIZERS = {name: Tokenizer(make(), {}) for name, make in KINDS.items()}
WORDS = st.sampled_from(
    ["the", " wheel", "  ", "🦫", "你好", "é", "\n\n", "TH", ".", "x", "<s>", "<|im_end|>", "grüße"]
)
texts = st.lists(WORDS, max_size=8).map("".join)


def places_in(text: str, tokenizer: Tokenizer, *, add_special_tokens: bool = True) -> list[int]:
    return [token.place for token in place_text(text, tokenizer, add_special_tokens=add_special_tokens)]


def parts(text: str, places: list[int]) -> list[str]:
    """The text from each place to the next."""
    assert places == sorted(places) and (not places or places[0] == 0)
    return [text[start:end] for start, end in pairwise([*places, len(text)])]


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts)
@settings(deadline=None)
def test_each_place_is_where_the_tokenizer_cut(kind: str, text: str) -> None:
    """A token begins where the one before has ended, or, if they share a character, where that begins."""
    tokenizer = TOKENIZERS[kind]
    tokens = tokenizer.encode_with_spans(text)
    places = places_in(text, tokenizer)
    assert "".join(parts(text, places)) == (text if tokens else "")
    end = 0
    for (_, span), place in zip(tokens, places, strict=True):
        assert place == (end if span is None else min(end, span[0]))
        end = end if span is None else span[1]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None)
def test_what_any_tokens_write_is_decoded_up_to_their_places(kind: str, data: st.DataObject) -> None:
    """The text before a token's place is what the tokens before it decode to, but for a character that they begin and
    it goes on with."""
    tokenizer = TOKENIZERS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.num_ids - 1), max_size=12))
    text, places = place_tokens(ids, tokenizer.vocabulary)
    assert text == tokenizer.decode(ids)
    parts(text, places)
    for count, place in enumerate(places):
        before = tokenizer.decode(ids[:count])
        if text.startswith(before) and "\ufffd" not in before:
            assert place == len(before)


def test_bytes_that_make_a_run_of_characters() -> None:
    """A piece decoder holds a run of byte tokens until it ends. The places within it, and of the token behind it, once
    were all that of its beginning: the text of two characters belonged to the word that followed."""
    codec = TextCodec(Tokenizer(byte_fallback(), {}))
    ids = codec.tokenizer.encode("你好 the", add_special_tokens=False)[1:]
    text, places = place_tokens(ids, codec.tokenizer.vocabulary)
    assert parts(text, places) == ["", "", "你", "", "", "好", " the"]
    stream, told, offsets = codec.open_stream(), "", []
    for token_id in ids:
        offsets.append(stream.offset_of(token_id))
        told += stream.push_one(token_id)
    assert (told, offsets) == (text, places)


def test_bytes_that_make_no_character_are_not_the_next_tokens() -> None:
    pieces, by_bytes = Tokenizer(byte_fallback(), {}), Tokenizer(byte_level(), {})
    bad = [3 + 0xE4, 3 + 0xBD, *pieces.encode("the", add_special_tokens=False)]
    text, places = place_tokens(bad, pieces.vocabulary)
    assert text == "\ufffd\ufffd the" and parts(text, places)[2] == " the"
    start = by_bytes.encode("🦫")[0]
    text, places = place_tokens([start, *by_bytes.encode(" water")], by_bytes.vocabulary)
    assert parts(text, places) == ["\ufffd", " water"]


def test_a_text_that_the_tokenizer_changes() -> None:
    """Then nothing that the tokens decode to is the text, and its own spans count; the trimmed space goes along."""
    inner = byte_level()
    special = {name: inner.token_to_id(name) for name in ("<|endoftext|>", "<|im_end|>")}
    inner.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                "<|endoftext|> $A <|im_end|>", None, [(name, i) for name, i in special.items()]
            ),
        ]
    )
    tokenizer = Tokenizer(inner, {})
    text = "The Wheel é"
    got = parts(text, places_in(text, tokenizer))
    assert got[0] == got[-1] == "" and "".join(got) == text
    assert got[:4] == ["", "T", "he", " Wheel"] and got[-2:] == ["é", ""]


def test_special_tokens_in_a_text_are_text_and_added_ones_are_none() -> None:
    inner: tokenizers.Tokenizer = byte_fallback()
    tokenizer = Tokenizer(inner, {})
    assert parts("the <s> water", places_in("the <s> water", tokenizer))[:4] == ["", "the", " ", "<s>"]
    assert places_in("", tokenizer) == [0]
    assert places_in("", tokenizer, add_special_tokens=False) == []
