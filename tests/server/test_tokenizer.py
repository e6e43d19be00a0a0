"""The tokenizer, with transformers' AutoTokenizer as the oracle."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from small_tokenizers import CORPUS, KINDS, byte_fallback, byte_level, word_level, write_text_folder

from penstock_server.text.codec import TextCodec
from penstock_server.text.errors import TokenizerError
from penstock_server.text.tokenizer import Tokenizer

TEXTS = [*CORPUS, "", " ", "a<|im_end|>b", "<s>x</s>", "<|extra|> y"]


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_encodes_as_transformers_does(tmp_path: Path, make: Callable[[], tokenizers.Tokenizer]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = make()
    tokenizer.enable_truncation(4)  # as some checkpoints leave it; nobody wants prompts cut
    declared = {"900": {"content": "<|extra|>", "special": True, "lstrip": False, "rstrip": False, "normalized": False}}
    folder = write_text_folder(
        tmp_path,
        tokenizer,
        bos_token="<s>",
        eos_token={"__type": "AddedToken", "content": "</s>"},
        added_tokens_decoder=declared,
    )
    ours, theirs = Tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    theirs._tokenizer.no_truncation()
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, truncation=False)
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False)
        ids = ours.encode(text)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.bos_id == theirs.bos_token_id
    assert {"bos_token": "<s>", "eos_token": "</s>"}.items() <= ours.special_tokens.items()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_holding(tmp_path: Path, make: Callable[[], tokenizers.Tokenizer]) -> None:
    """Every ordinary token with these characters in it is found, and no special one."""
    tokenizer = Tokenizer.load(write_text_folder(tmp_path, make()))
    special = tokenizer.vocabulary.special_ids
    assert special or make is word_level
    for text in ("e", " ", "he", "he ", "\n", "<", "ï", "unheard of"):
        expected = [i for i in range(2000) if i not in special and text.encode() in tokenizer.own_bytes(i)]
        assert list(tokenizer.holding(text)) == expected
    assert tokenizer.holding("e")


def test_special_tokens_map_is_read_below_the_config(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path, byte_level(), bos_token="<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "x", "eos_token": {"content": "<|im_end|>"}})
    )
    assert Tokenizer.load(folder).special_tokens == {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "no tokenizer.json"),
        ({"tokenizer.json": "{"}, "cannot be read"),
        ({"tokenizer.json": None, "tokenizer_config.json": "[1]"}, "not a JSON object"),
        ({"tokenizer.json": None, "tokenizer_config.json": "nonsense"}, "is not JSON"),
    ],
)
def test_a_broken_folder_is_told_by_file(tmp_path: Path, files: dict[str, str | None], told: str) -> None:
    for name, content in files.items():
        if content is None:
            byte_level().save(str(tmp_path / name))
        else:
            (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=told):
        Tokenizer.load(tmp_path)


def test_codec_in_process(tmp_path: Path) -> None:
    """What an in-process engine uses: tokens in, text until the stop string out."""
    codec = TextCodec.load(write_text_folder(tmp_path, byte_level()))
    stream = codec.open_stream(["the wh"])
    delta, stopped = stream.push(codec.encode("Hello world, and the wheel turns"))
    assert (delta + stream.finish(), stopped) == ("Hello world, and ", True)
    stream = codec.open_stream(["wheels"])
    delta, stopped = stream.push(codec.encode("the wheel"))
    assert (delta, stopped, stream.finish()) == ("the ", False, "wheel")


def test_no_stop_string_matches_in_the_first_min_tokens(tmp_path: Path) -> None:
    codec = TextCodec.load(write_text_folder(tmp_path, byte_level(260)))  # one token a byte
    stream = codec.open_stream(["b"], min_tokens=3)
    assert stream.push(codec.encode("abcab")) == ("abca", True)
