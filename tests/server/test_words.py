"""Texts that stand for parts of an answer: each tokenizer's ids for them, and their way to the engine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from server_api import Api
from small_tokenizers import KINDS, write_text_folder

from penstock_decoding.processors.allowed_sequences import AllowedSequencesParams
from penstock_decoding.strategies.constrained_beam import ConstrainedBeamParams
from penstock_decoding.token_lists import TokenLists
from penstock_server.text.codec import TextCodec

# The characters of these every tokenizer below can write but the one of whole words.
TEXTS = ["water", " water", "  water", "the wheel", " the", "Hello", "e", " ", "turns,"]
SPELLING = [kind for kind in KINDS if kind != "word_level"]


def load(folder: Path, kind: str) -> TextCodec:
    return TextCodec.load(write_text_folder(folder, KINDS[kind]()))


def text_of(codec: TextCodec, token_ids: Sequence[int], *, is_continuation: bool) -> str:
    stream = codec.open_stream(is_continuation=is_continuation)
    return stream.push(token_ids)[0] + stream.finish()


@pytest.mark.parametrize("kind", SPELLING)
@pytest.mark.parametrize("text", TEXTS)
def test_within_is_exactly_the_text(tmp_path: Path, kind: str, text: str) -> None:
    """In the midst of an answer the ids read as these characters: no space that the tokenizer puts before a text."""
    codec = load(tmp_path, kind)
    for is_continuation in (False, True):
        ids = codec.encoder(is_continuation=is_continuation).within(text)
        assert text_of(codec, ids, is_continuation=True) == text
    before = codec.encode("The penstock")
    both = text_of(codec, [*before, *ids], is_continuation=False)
    assert both == text_of(codec, before, is_continuation=False) + text


@pytest.mark.parametrize("kind", SPELLING)
@pytest.mark.parametrize("text", ["water", "the wheel", "Hello"])
def test_at_start_is_what_the_answer_reads(tmp_path: Path, kind: str, text: str) -> None:
    """At the start of an answer the ids are the tokenizer's own, and read as the text, in both APIs."""
    codec = load(tmp_path, kind)
    natural = codec.tokenizer.encode(text, add_special_tokens=False)
    assert codec.encoder(is_continuation=False).at_start(text) == natural
    assert text_of(codec, natural, is_continuation=False) == text
    continued = codec.encoder(is_continuation=True).at_start(text)
    assert text_of(codec, continued, is_continuation=True) == text


def test_no_special_token_is_added(tmp_path: Path) -> None:
    """A tokenizer that begins every text with <s> does not begin a word with it."""
    codec = load(tmp_path, "byte_fallback")
    start = codec.encode("x")[0]
    assert codec.tokenizer.bos_id is None or start == codec.tokenizer.bos_id
    encoder = codec.encoder()
    assert start not in [*encoder.at_start("water"), *encoder.within("water")]


def test_a_text_that_the_tokenizer_cannot_spell(tmp_path: Path) -> None:
    """Whole words only: what the tokenizer makes of the text by itself."""
    codec = load(tmp_path, "word_level")
    assert codec.encoder().within("the water") == codec.tokenizer.encode("the water")


async def asked(api: Api, endpoint: str, **fields: Any) -> Any:
    """The decoding parameters that reach the engine."""
    reply = await (api.complete(**fields) if endpoint == "completion" else api.chat(**fields))
    assert reply.status_code == 200, reply.text
    return api.engine.requests[-1].decoding


async def refused(api: Api, **fields: Any) -> tuple[str, str]:
    reply = await api.complete(**fields)
    assert reply.status_code == 400, reply.text
    error = json.loads(reply.text)["error"]
    assert not api.engine.requests
    return error["param"], error["message"]


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", ["completion", "chat"])
async def test_allowed_texts(api: Api, endpoint: str) -> None:
    """As a flat field or in a chain, alone or beside token ids: the engine gets ids only."""
    cat, dog = (tuple(api.encode(text)) for text in ("cat", " dog"))
    decoding = await asked(api, endpoint, allowed_texts=["cat", " dog"], allowed_sequences=[[1, 2]], temperature=0.5)
    assert [step.name for step in decoding.chain] == ["allowed_sequences", "temperature"]
    assert decoding.chain[0].params == AllowedSequencesParams(TokenLists.of([(1, 2), cat, dog]))
    chain = [{"allowed_sequences": {"texts": ["cat"]}}, {"top_k": 5}]
    decoding = await asked(api, endpoint, decoding={"strategy": "beam", "width": 3, "chain": chain})
    assert decoding.chain[0].params == AllowedSequencesParams(TokenLists.of([cat]))


@pytest.mark.anyio
@pytest.mark.parametrize("endpoint", ["completion", "chat"])
async def test_required_words(api: Api, endpoint: str) -> None:
    """Texts of a strategy: each is a group of two forms, with a space before and without."""
    decoding = await asked(
        api,
        endpoint,
        decoding={"strategy": "constrained_beam", "width": 4, "texts": ["cat", " dog"], "words": [[7, 8]]},
        n=2,
    )
    cat, spaced_cat, dog = (tuple(api.encode(text)) for text in ("cat", " cat", " dog"))
    assert decoding.strategy.name == "constrained_beam"
    assert decoding.strategy.params == ConstrainedBeamParams(4, ((7, 8),), ((spaced_cat, cat), (dog,)), (), 2)


@pytest.mark.anyio
async def test_faults_are_named(api: Api) -> None:
    """A text without characters, one that is not a text, ids outside the vocabulary, too many words."""
    assert (await refused(api, allowed_texts=["cat", ""]))[0] == "allowed_texts.1"
    assert (await refused(api, allowed_texts=[5]))[0] == "allowed_texts.0"
    assert (await refused(api, allowed_sequences=[[5, 500]]))[0] == "allowed_sequences"
    assert (await refused(api, allowed_sequences=[]))[0] == "allowed_sequences"
    chain = [{"allowed_sequences": {"texts": [" "], "sequences": [[]]}}]
    assert (await refused(api, decoding={"chain": chain}))[0] == "decoding.chain.0.allowed_sequences.sequences"
    beam = {"strategy": "constrained_beam", "width": 2}
    assert (await refused(api, decoding={**beam, "words": [[500]]}))[0] == "decoding"
    assert (await refused(api, decoding={**beam, "texts": ["x"] * 33}))[0] == "decoding.words"
    assert (await refused(api, decoding=beam))[0] == "decoding.words"
    param, message = await refused(api, decoding={**beam, "texts": ["water " * 40]})
    assert param == "decoding.texts" and "tokens" in message


@pytest.mark.anyio
async def test_thousands_of_texts(api: Api) -> None:
    """A long list of texts is read in a thread: what arrives is the same."""
    texts = [f"answer {i}" for i in range(3000)]
    decoding = await asked(api, "completion", allowed_texts=texts)
    assert decoding.chain[0].params == AllowedSequencesParams(TokenLists.of(map(api.encode, texts)))
