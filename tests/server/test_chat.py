"""`/v1/chat/completions`, unstreamed."""

from pathlib import Path
from typing import Any

import pytest
from server_api import MODEL, Api, MakeApi
from small_tokenizers import byte_level, write_text_folder

from penstock_server.model import ServedModel

pytestmark = pytest.mark.anyio


async def reply(api: Api, **fields: object) -> Any:
    response = await api.chat(**fields)
    assert response.status_code == 200, response.text
    return response.json()


def prompt_text(api: Api) -> str:
    # Special tokens shown: they are what a template is about.
    return "".join(map(api.context.model.codec.tokenizer.label, api.engine.requests[-1].prompt))


async def test_the_whole_reply(api: Api) -> None:
    api.say("Hi there 🙂")
    got = await reply(api, seed=5)
    assert got["id"].startswith("chatcmpl-") and got["object"] == "chat.completion" and got["model"] == MODEL
    assert got["seed"] == 5
    assert got["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi there 🙂", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert prompt_text(api) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert got["usage"]["prompt_tokens"] == len(api.engine.requests[0].prompt)


async def test_the_answer_may_fill_the_context(api: Api) -> None:
    got = await reply(api)
    assert got["usage"]["total_tokens"] == api.engine.info.max_model_len
    assert got["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_both_names_of_the_limit(api: Api, field: str) -> None:
    assert (await reply(api, **{field: 3}))["usage"]["completion_tokens"] == 3
    assert (await reply(api, **{field: 0}))["choices"][0]["message"]["content"] == ""


async def test_roles_and_text_parts(api: Api) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": []},
        {"role": "tool", "content": "d", "tool_call_id": "1"},
    ]
    await reply(api, messages=messages, add_generation_prompt=False)
    turns = [("system", "Be brief."), ("user", "a\nb"), ("assistant", "c"), ("tool", "d")]
    assert prompt_text(api) == "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)


async def test_messages_of_evaluations(api: Api) -> None:
    """lm-eval gives each message a type; it was refused. It also sends stop strings, the model's own end among them."""
    message: dict[str, object] = {"role": "user", "content": "a", "type": "text"}
    fields = {"temperature": 0, "max_tokens": 4, "seed": 1234, "stop": ["Question:", "</s>", "<|im_end|>"]}
    assert (await reply(api, messages=[message], **fields))["usage"]["completion_tokens"] == 4
    response = await api.chat(messages=[message | {"type": "picture"}])
    assert response.status_code == 400 and response.json()["error"]["param"] == "messages.0.type"


async def test_template_variables(make_api: MakeApi, tmp_path: Path) -> None:
    source = "{% if thinking %}think {% endif %}{{ messages[0].content }}"
    api = make_api(ServedModel.load(write_text_folder(tmp_path, byte_level(), chat_template=source), [MODEL]))
    await reply(api, chat_template_kwargs={"thinking": True})
    assert prompt_text(api) == "think Hello"
    for name in ("messages", "tools", "__class__"):
        response = await api.chat(chat_template_kwargs={name: 1})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == f"chat_template_kwargs.{name}"


async def test_a_template_that_refuses_is_a_400(make_api: MakeApi, tmp_path: Path) -> None:
    source = "{{ raise_exception('roles must alternate') }}"
    api = make_api(ServedModel.load(write_text_folder(tmp_path, byte_level(), chat_template=source), [MODEL]))
    response = await api.chat()
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "messages" and "roles must alternate" in error["message"]


async def test_a_model_without_a_template(make_api: MakeApi, tmp_path: Path) -> None:
    api = make_api(ServedModel.load(write_text_folder(tmp_path, byte_level()), [MODEL]))
    response = await api.chat()
    assert response.status_code == 400 and "no chat template" in response.json()["error"]["message"]
    assert (await api.complete()).status_code == 200


async def test_logprobs(api: Api) -> None:
    text = "x🦫"
    tokens = api.encode(text)
    api.engine.next_token = lambda request, choice, position: tokens[position]
    got = await reply(api, logprobs=True, top_logprobs=2, max_tokens=len(tokens))
    content = got["choices"][0]["logprobs"]["content"]
    # A token inside a character has its own bytes.
    assert bytes(byte for item in content for byte in item["bytes"]) == text.encode()
    assert [item["logprob"] for item in content] == [-0.25] * len(tokens)
    assert [[top["logprob"] for top in item["top_logprobs"]] for item in content] == [[-1.0, -2.0]] * len(tokens)
    assert len({item["token"] for item in content}) == len(tokens)
    got = await reply(api, logprobs=True, max_tokens=1)
    assert got["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


async def test_n_answers(api: Api) -> None:
    words = [api.encode(" water")[0], api.encode(" wheel")[0]]
    api.engine.next_token = lambda request, choice, position: words[choice]
    got = await reply(api, n=2, max_tokens=1, temperature=0)
    decode = api.context.model.codec.tokenizer.decode
    assert [choice["message"]["content"] for choice in got["choices"]] == [decode([word]) for word in words]
    assert got["usage"]["completion_tokens"] == 2 and len(api.engine.requests) == 1


BEGUN = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


async def test_an_answer_that_goes_on(api: Api) -> None:
    api.say(" there")
    got = await reply(api, messages=BEGUN, continue_final_message=True)
    assert prompt_text(api) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi"
    assert got["choices"][0]["message"]["content"] == " there"
    await reply(api, messages=BEGUN, continue_final_message=True, add_generation_prompt=False)
    assert prompt_text(api).endswith("assistant\nHi")


@pytest.mark.parametrize(
    "fields",
    [
        {"continue_final_message": True, "add_generation_prompt": True, "messages": BEGUN},
        {"continue_final_message": True, "messages": BEGUN[:1]},
        {"continue_final_message": True, "messages": [BEGUN[0], {"role": "assistant", "content": ""}]},
    ],
)
async def test_nothing_to_go_on_from(api: Api, fields: dict[str, Any]) -> None:
    response = await api.chat(**fields)
    assert response.status_code == 400 and response.json()["error"]["param"] == "continue_final_message"


async def test_token_ids_of_prompt_and_answer(api: Api) -> None:
    api.say("Hi there")
    ids = [*api.encode("Hi there"), api.eos_id]
    got = await reply(api, return_token_ids=True)
    assert got["prompt_token_ids"] == list(api.engine.requests[-1].prompt)
    assert got["choices"][0]["token_ids"] == ids and got["choices"][0]["logprobs"] is None


async def test_a_template_without_special_tokens_of_its_own(api: Api) -> None:
    tokenizer = api.context.model.codec.tokenizer
    text = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    for adds in (False, True):
        await reply(api, add_special_tokens=adds)
        assert list(api.engine.requests[-1].prompt) == tokenizer.encode(text, add_special_tokens=adds)
