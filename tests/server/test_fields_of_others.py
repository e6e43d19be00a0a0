"""Fields that other servers' clients send, where they meet ours."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from field_probes import request
from honest_app import HonestApp

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Hello"}]
SAID = [*HELLO, {"role": "assistant", "content": "IJ"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[HonestApp]:
    app = HonestApp(tmp_path)
    yield app
    await app.client.aclose()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tools": TOOLS},
        {"messages": SAID, "continue_final_message": True},
        {"messages": SAID, "add_generation_prompt": False},
        {"chat_template_kwargs": {"enable_thinking": True}},
        {"add_special_tokens": True},
    ],
    ids=str,
)
async def test_tokenize_tells_the_prompt_of_a_chat(app: HonestApp, more: dict[str, Any]) -> None:
    """`/tokenize` could show neither the prompt that tools are in nor one that goes on with the last message."""
    chat = await app.ask("/v1/chat/completions", request("/v1/chat/completions", {**more, "return_token_ids": True}))
    tokens = await app.ask("/tokenize", {"messages": HELLO, **more})
    assert tokens.told["tokens"] == chat.told["prompt_token_ids"]
    if "add_special_tokens" not in more:
        text = await app.ask("/apply_template", {"messages": HELLO, **more})
        encoded = await app.ask("/tokenize", {"prompt": text.told["prompt"], "add_special_tokens": False})
        assert encoded.told["tokens"] == tokens.told["tokens"]


@pytest.mark.parametrize(
    ("path", "given", "param"),
    [
        ("/v1/responses", {"reasoning": {"effort": "none"}}, "chat_template_kwargs.enable_thinking"),
        ("/v1/messages", {"thinking": {"type": "disabled"}}, "chat_template_kwargs.enable_thinking"),
    ],
)
async def test_a_variable_is_given_one_value(app: HonestApp, path: str, given: dict[str, Any], param: str) -> None:
    """The chat template's variables can be given by name beside a field that means one of them; the other ones stay."""
    thinking = {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "none"}}
    refused = await app.ask(path, request(path, {**given, **thinking}))
    assert refused.error["param"] == param
    same = {"chat_template_kwargs": {"enable_thinking": False, "unused": 1}}
    assert (await app.ask(path, request(path, {**given, **same}))).status == 200
    wrong = await app.ask(path, request(path, {**given, "chat_template_kwargs": 3}))
    assert wrong.error["param"] == "chat_template_kwargs"


@pytest.mark.parametrize(
    ("path", "given", "param"),
    [
        # It was found in `output_config.format`, which the request did not have.
        ("/v1/messages", {"output_format": {"type": "text"}}, "output_format"),
        ("/v1/messages", {"output_format": {"type": "json_schema", "schema": {"type": 3}}}, "output_format"),
        # One of the two was passed over.
        (
            "/v1/messages",
            {
                "output_format": {"type": "json_schema", "schema": {"const": "I"}},
                "output_config": {"format": {"type": "json_schema", "schema": {"const": "J"}}},
            },
            "output_format",
        ),
        # A chat request's name for it was told.
        ("/v1/responses", {"max_output_tokens": 9, "min_tokens": 10}, "min_tokens"),
        ("/v1/responses", {"max_output_tokens": 10**6}, "max_output_tokens"),
    ],
)
async def test_a_fault_is_found_where_it_stands(app: HonestApp, path: str, given: dict[str, Any], param: str) -> None:
    refused = await app.ask(path, request(path, given))
    assert refused.status == 400 and str(refused.error["param"]).partition(".")[0] == param


async def test_no_likeliest_tokens_need_no_log_probabilities(app: HonestApp) -> None:
    """`top_logprobs` 0, vLLM's default, was refused where `logprobs` was not true."""
    path = "/v1/chat/completions"
    for logprobs in (None, False):
        given = request(path, {"top_logprobs": 0, "logprobs": logprobs})
        assert await app.ask(path, given) == await app.ask(path, request(path, {}))
    assert (await app.ask(path, request(path, {"top_logprobs": 1}))).error["param"] == "top_logprobs"


async def test_the_far_end_of_a_prompt_can_go(app: HonestApp) -> None:
    prompt = [40, 41, 42, 43, 44]
    for side, kept in (("left", [43, 44]), ("right", [40, 41]), (None, [43, 44])):
        fields = {"prompt": prompt, "truncate_prompt_tokens": 2, "truncation_side": side}
        reply = await app.ask("/v1/completions", request("/v1/completions", {**fields, "return_token_ids": True}))
        assert [choice["prompt_token_ids"] for choice in reply.told["choices"]] == [kept]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_each_chunk_can_count(app: HonestApp, path: str) -> None:
    """vLLM's `continuous_usage_stats`: what is counted in a chunk is all that has come with it."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    told = await app.ask(path, request(path, {"stream": True, "stream_options": options, "return_token_ids": True}))
    whole = await app.ask(path, request(path, {}))
    num_tokens = 0
    for kind, data in told.told:
        assert kind == ""
        num_tokens += sum(len(choice.get("token_ids", ())) for choice in data["choices"])
        assert data["usage"]["prompt_tokens"] == whole.told["usage"]["prompt_tokens"]
        # A chat's role comes in a chunk of its own, before the first token that came with it.
        assert data["usage"]["completion_tokens"] - num_tokens == (1 if num_tokens == 0 else 0)
    assert data["usage"] == whole.told["usage"] and num_tokens == 12
    for alone in ({"continuous_usage_stats": True}, {"continuous_usage_stats": True, "include_usage": False}):
        refused = await app.ask(path, request(path, {"stream": True, "stream_options": alone}))
        assert refused.error["param"] == "stream_options.continuous_usage_stats"


async def test_a_thought_has_one_text_under_both_of_its_names(app: HonestApp) -> None:
    """A reply tells thoughts under vLLM's two names, so a client sends both back."""
    turn = {"role": "assistant", "content": "Yes", "reasoning_content": "Hm"}
    messages = [
        *HELLO,
        turn,
        {"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {}}]},
    ]
    path = "/v1/chat/completions"
    assert (await app.ask(path, request(path, {"messages": messages}))).status == 200
    turn["reasoning"] = "Hm"
    assert (await app.ask(path, request(path, {"messages": messages}))).status == 200
    turn["reasoning"] = "No"
    assert (await app.ask(path, request(path, {"messages": messages}))).error["param"] == "messages.1.reasoning"
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    (choice,) = (await app.ask(path, request(path, thinking))).told["choices"]
    assert choice["message"]["reasoning"] == choice["message"]["reasoning_content"] != ""
