"""`suffix`: the prompt as each family of models was taught to see a gap, and what of it the reply tells."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import tokenizers
from server_api import MODEL, Api, MakeApi, events
from small_tokenizers import byte_fallback, byte_level, write_text_folder

from penstock_server.model import ServedModel
from penstock_server.text.infill import Infill, find_infill, suffix_tokens
from penstock_server.text.tokenizer import Tokenizer

pytestmark = pytest.mark.anyio

QWEN = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
PREFIX, SUFFIX = "The wheel ", "\n  turns the café."

# Tokens of the family, and a prompt as its models' cards write it.
WRITTEN = [
    (QWEN, f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>"),
    (("<fim_prefix>", "<fim_middle>", "<fim_suffix>"), f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"),
    (("<fim-prefix>", "<fim-middle>", "<fim-suffix>"), f"<fim-prefix>{PREFIX}<fim-suffix>{SUFFIX}<fim-middle>"),
    (
        ("<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁end\uff5c>"),
        f"<\uff5cfim▁begin\uff5c>{PREFIX}<\uff5cfim▁hole\uff5c>{SUFFIX}<\uff5cfim▁end\uff5c>",
    ),
    (
        ("<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>"),
        f"<[fim-suffix]>{SUFFIX}<[fim-prefix]>{PREFIX}<[fim-middle]>",
    ),
    (("[PREFIX]", "[MIDDLE]", "[SUFFIX]"), f"[SUFFIX]{SUFFIX}[PREFIX]{PREFIX}"),
]


def required(tokenizer: Tokenizer) -> Infill:
    infill = find_infill(tokenizer)
    assert infill is not None
    return infill


def laid_out(inner: tokenizers.Tokenizer, prefix: str, suffix: str) -> list[str]:
    """The tokens of the prompt, with those that the tokenizer adds to any text."""
    tokenizer = Tokenizer(inner, {"bos_token": "<s>"})
    ids = required(tokenizer).prompt(tokenizer.encode(prefix), suffix_tokens(suffix, tokenizer), tokenizer.bos_id)
    return [str(inner.id_to_token(token_id)) for token_id in ids]


@pytest.mark.parametrize("is_special", [True, False])  # Qwen's are not special, StarCoder's are
@pytest.mark.parametrize(("tokens", "written"), WRITTEN, ids=lambda value: value[0])
def test_the_prompt_is_the_one_that_its_models_know(tokens: tuple[str, ...], written: str, is_special: bool) -> None:
    inner = byte_level()
    inner.add_special_tokens(list(tokens)) if is_special else inner.add_tokens(list(tokens))
    assert laid_out(inner, PREFIX, SUFFIX) == inner.encode(written).tokens


def test_the_suffix_has_no_space_before_it() -> None:
    """SentencePiece puts one before each text; what follows a gap is in the midst of one.

    The forms are those of mistral-common's tests ("<s>[SUFFIX]return▁a▁+▁b[PREFIX]▁def▁f(") and of CodeLlama's own
    encoder ("<PRE> {prefix} <SUF>{suffix} <MID>", whose tokens hold the blank before them).
    """
    mistral, llama = byte_fallback(), byte_fallback()
    mistral.add_special_tokens(["[PREFIX]", "[SUFFIX]"])
    assert laid_out(mistral, "the", "he w") == ["<s>", "[SUFFIX]", "he", "▁w", "[PREFIX]", "▁the"]
    llama.add_special_tokens(["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"])
    assert laid_out(llama, "the", "he w") == ["<s>", "▁<PRE>", "▁the", "▁<SUF>", "he", "▁w", "▁<MID>"]
    assert laid_out(llama, "the", " w") == ["<s>", "▁<PRE>", "▁the", "▁<SUF>", "▁w", "▁<MID>"]
    assert required(Tokenizer(llama, {})).end_ids == tuple(
        llama.token_to_id(token) for token in ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")
    )


def test_a_part_of_a_family_is_none() -> None:
    inner = byte_level()
    inner.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<fim_middle>", "[PREFIX]"])
    assert find_infill(Tokenizer(inner, {})) is None


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """A model with Qwen2.5-Coder's tokens."""
    inner = byte_level()
    inner.add_tokens(list(QWEN))
    folder: Path = tmp_path_factory.mktemp("coder")
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    return ServedModel.load(write_text_folder(folder, inner, **names), [MODEL])


@pytest.fixture
def filling(make_api: MakeApi, coder: ServedModel) -> Api:
    return make_api(model=coder)


def ids(api: Api, text: str) -> tuple[int, ...]:
    return tuple(api.encode(text))


async def fill(api: Api, **fields: object) -> httpx.Response:
    return await api.complete(prompt=PREFIX, suffix=SUFFIX, **fields)


async def choices(api: Api, **fields: object) -> list[dict[str, Any]]:
    response = await fill(api, **fields)
    assert response.status_code == 200, response.text
    told: list[dict[str, Any]] = response.json()["choices"]
    return told


async def test_the_gap_is_filled(filling: Api) -> None:
    filling.say("water")
    response = await fill(filling, return_token_ids=True)
    (choice,) = response.json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("water", "stop")
    prompt = ids(filling, f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>")
    assert filling.engine.requests[0].prompt == prompt == tuple(choice["prompt_token_ids"])
    assert response.json()["usage"]["prompt_tokens"] == len(prompt)


async def test_the_answer_ends_where_another_part_begins(filling: Api) -> None:
    """Behind the middle a model goes on with the next file, or with padding, which no end of text tells."""
    for end in ("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|fim_prefix|>", "<|endoftext|>"):
        filling.say("water" + end + "next", end=False)
        (choice,) = await choices(filling)
        assert (choice["text"], choice["finish_reason"]) == ("water", "stop")
    # They are the model's own ends, like those that it has without a suffix.
    filling.say("water<|fim_pad|>", end=False)
    (choice,) = await choices(filling, ignore_eos=True, max_tokens=len(ids(filling, "water")) + 1)
    assert choice["finish_reason"] == "length"
    assert (await filling.complete(max_tokens=4)).json()["choices"][0]["finish_reason"] == "length"


async def test_the_echo_is_the_prompt_without_the_suffix(filling: Api) -> None:
    filling.say("water")
    assert [choice["text"] for choice in await choices(filling, echo=True, n=2)] == [PREFIX + "water"] * 2
    told = await filling.complete(prompt=list(ids(filling, PREFIX)), suffix=SUFFIX, echo=True)
    assert told.json()["choices"][0]["text"] == PREFIX + "water"


async def test_streamed_is_the_same(filling: Api) -> None:
    filling.say("water runs")
    streamed = events((await fill(filling, echo=True, n=2, stream=True)).text)
    texts = ["", ""]
    for _, chunk in streamed:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in await choices(filling, echo=True, n=2)]


async def test_several_prompts_and_such_of_token_ids(filling: Api) -> None:
    assert (await filling.complete(prompt=["a", ""], suffix="b")).status_code == 200
    expected = [ids(filling, f"<|fim_prefix|>{text}<|fim_suffix|>b<|fim_middle|>") for text in ("a", "")]
    assert [request.prompt for request in filling.engine.requests] == expected
    assert (await filling.complete(prompt=[list(ids(filling, "a"))], suffix="b")).status_code == 200
    assert filling.engine.requests[-1].prompt == expected[0]
    bos = filling.context.model.codec.tokenizer.bos_id
    assert bos is not None
    assert (await filling.complete(prompt=[bos, *ids(filling, "a")], suffix="b")).status_code == 200
    assert filling.engine.requests[-1].prompt == (bos, *expected[0])


async def test_log_probabilities_of_the_answer(filling: Api) -> None:
    filling.say("water")
    (choice,) = await choices(filling, logprobs=1)
    assert len(choice["logprobs"]["tokens"]) == len(ids(filling, "water")) + 1
    assert choice["logprobs"]["text_offset"][0] == 0


async def test_an_empty_suffix_asks_for_nothing(filling: Api, api: Api) -> None:
    for one in (filling, api):
        assert (await one.complete(suffix="")).status_code == 200
        assert one.engine.requests[-1].prompt == ids(one, "Hello")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens", "invalid_value"),
        ({"echo": True, "logprobs": 1}, "logprobs", "invalid_value"),
        ({"suffix": 1}, "suffix", "invalid_type"),
        ({"suffix": "w" * 2**20}, "suffix", "context_length_exceeded"),
        ({"suffix": "x, " * 300}, "prompt", "context_length_exceeded"),
    ],
)
async def test_refusals(filling: Api, fields: dict[str, Any], param: str, code: str) -> None:
    response = await filling.complete(**{"prompt": PREFIX, "suffix": SUFFIX, **fields})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
    assert not filling.engine.requests


async def test_a_model_without_such_tokens(api: Api, filling: Api) -> None:
    response = await fill(api)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "suffix", "unsupported_parameter")
    for one, has_infill in ((api, False), (filling, True)):
        assert (await one.client.get(f"/v1/models/{MODEL}")).json()["penstock"]["infill"] is has_infill
