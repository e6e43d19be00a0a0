"""Text to tokens and back over HTTP, against the tokenizer and the template themselves."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_api import MODEL, Api, MakeApi

from penstock_server.text.chat_template import required
from penstock_server.version import VERSION

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "Hello"}]


async def post(api: Api, path: str, **body: object) -> Any:
    response = await api.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_text(api: Api) -> None:
    tokens = api.encode("Hello water")
    assert await post(api, "/tokenize", model=MODEL, prompt="Hello water") == {
        "count": len(tokens), "max_model_len": 256, "tokens": tokens, "token_strs": None,
    }  # fmt: skip
    assert await post(api, "/detokenize", model=MODEL, tokens=tokens, skip_special_tokens=True) == {
        "prompt": "Hello water"
    }


async def test_the_tokens_as_texts(api: Api) -> None:
    told = await post(api, "/tokenize", prompt="Hello \U0001f30a", return_token_strs=True, add_special_tokens=False)
    assert len(told["token_strs"]) == told["count"]
    assert "".join(told["token_strs"]).startswith("Hello")
    assert told["token_strs"][-1].startswith("bytes:")  # the wave is more than one token


async def test_special_tokens(api: Api) -> None:
    tokenizer = api.context.model.codec.tokenizer
    end = tokenizer.special_tokens["eos_token"]
    tokens = [*tokenizer.encode("Hi", add_special_tokens=False), api.eos_id]
    assert (await post(api, "/detokenize", tokens=tokens))["prompt"] == "Hi" + end
    assert (await post(api, "/detokenize", tokens=tokens, skip_special_tokens=True))["prompt"] == "Hi"


async def test_messages(api: Api) -> None:
    text = required(api.context.model.template).render(MESSAGES)
    assert await post(api, "/apply_template", messages=MESSAGES) == {"prompt": text}
    without = required(api.context.model.template).render(MESSAGES, add_generation_prompt=False)
    assert await post(api, "/apply_template", messages=MESSAGES, add_generation_prompt=False) == {"prompt": without}
    tokens = api.context.model.codec.tokenizer.encode(text, add_special_tokens=False)
    assert (await post(api, "/tokenize", messages=MESSAGES))["tokens"] == tokens
    # What a chat request has as its prompt.
    usage = (await api.client.post("/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES})).json()["usage"]
    assert usage["prompt_tokens"] == len(tokens)


@given(text=st.text(max_size=40))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_comes_back(api: Api, text: str) -> None:
    tokens = (await post(api, "/tokenize", prompt=text, add_special_tokens=False))["tokens"]
    assert (await post(api, "/detokenize", tokens=tokens))["prompt"] == text


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"promt": "a"}, "promt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [0, 500]}, "tokens.1"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/apply_template", {}, "messages"),
        ("/apply_template", {"messages": [{"role": "user"}]}, "messages.0.content"),
        ("/apply_template", {"messages": MESSAGES, "chat_template_kwargs": {"messages": []}},
         "chat_template_kwargs.messages"),
    ],
)  # fmt: skip
async def test_refusals(api: Api, path: str, body: dict[str, Any], param: str) -> None:
    response = await api.client.post(path, json=body)
    assert response.status_code == 400 and response.json()["error"]["param"] == param, response.text


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/apply_template"])
async def test_another_model(api: Api, path: str) -> None:
    asked: dict[str, dict[str, object]] = {
        "/tokenize": {"prompt": "a"},
        "/detokenize": {"tokens": []},
        "/apply_template": {"messages": MESSAGES},
    }
    response = await api.client.post(path, json={"model": "x", **asked[path]})
    assert response.status_code == 404 and response.json()["error"]["param"] == "model"


async def test_version(api: Api) -> None:
    assert (await api.client.get("/version")).json() == {"version": VERSION}


async def test_limits_of_the_server(make_api: MakeApi) -> None:
    api = make_api(max_n=3, max_logprobs=2)
    for fields, param in (
        ({"n": 4}, "n"),
        ({"decoding": {"strategy": "sample", "n": 4}}, "decoding.n"),
        ({"logprobs": 3}, "logprobs"),
        ({"processed_logprobs": 3}, "processed_logprobs"),
    ):
        response = await api.complete(**fields)
        assert response.status_code == 400 and response.json()["error"]["param"] == param, response.text
    response = await api.chat(logprobs=True, top_logprobs=3)
    assert response.status_code == 400 and response.json()["error"]["param"] == "top_logprobs"
    assert (await api.complete(n=3, logprobs=2)).status_code == 200
