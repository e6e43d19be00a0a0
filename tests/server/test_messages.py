"""Anthropic's messages: its shapes, its events, its names in errors. Its own client: tests/clients."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_api import MODEL, Api, MakeApi, sent_events
from templated_api import prompt_of, with_template
from tool_templates import ALWAYS_THINKING, HERMES, THINKING

from penstock_engine.errors import QueueFull, RequestFailed

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "name": "weather",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def ask(api: Api, **fields: object) -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 200, "messages": HELLO, **fields}
    return await api.client.post("/v1/messages", json={key: item for key, item in body.items() if item is not None})


async def test_the_whole_reply(api: Api) -> None:
    api.say("Hi there")
    response = await ask(api, seed=5)
    got = response.json()
    assert got.pop("id").startswith("msg_") and response.headers["x-request-id"]
    usage = got.pop("usage")
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len(api.engine.requests[0].prompt)
    assert usage["output_tokens"] == len(api.encode("Hi there")) + 1
    assert got == {
        "type": "message", "role": "assistant", "model": MODEL, "content": [{"type": "text", "text": "Hi there"}],
        "stop_reason": "end_turn", "stop_sequence": None, "seed": 5,
    }  # fmt: skip


async def test_the_events(api: Api) -> None:
    api.say("Hi there")
    told = sent_events((await ask(api, stream=True)).text)
    assert [event["type"] for event in told[:3]] == ["message_start", "ping", "content_block_start"]
    assert told[0]["message"]["content"] == [] and told[0]["message"]["usage"]["input_tokens"] > 0
    assert told[2] == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == "Hi there"
    assert [event["type"] for event in told[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert told[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert told[-2]["usage"]["output_tokens"] == len(api.encode("Hi there")) + 1


@pytest.mark.parametrize("stream", [False, True])
async def test_why_it_stopped(api: Api, stream: bool) -> None:
    api.say("Hi there and more", end=False)
    for fields, expected in (
        ({"max_tokens": 2}, ("max_tokens", None)),
        ({"stop_sequences": ["xyz", "there"]}, ("stop_sequence", "there")),
    ):
        response = await ask(api, stream=stream, **fields)
        told = sent_events(response.text)[-2]["delta"] if stream else response.json()
        assert (told["stop_reason"], told["stop_sequence"]) == expected


async def test_system_and_blocks(api: Api) -> None:
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    await ask(api, system=blocks, messages=[{"role": "user", "content": blocks}], metadata={"user_id": "x"})
    expected = "<|im_start|>system\na\nb<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_of(api) == expected


async def test_an_answer_that_was_begun(api: Api) -> None:
    await ask(api, messages=[*HELLO, {"role": "assistant", "content": "Hi"}])
    assert prompt_of(api).endswith("<|im_start|>assistant\nHi")


async def test_tools(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, HERMES)
    api.say('Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>')
    got = (await ask(api, tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True})).json()
    assert got["stop_reason"] == "tool_use"
    assert got["content"][0] == {"type": "text", "text": "Let me see."}
    call = got["content"][1]
    assert call.pop("id").startswith("call_")
    assert call == {"type": "tool_use", "name": "weather", "input": {"city": "Rome"}}
    told = sent_events((await ask(api, tools=[WEATHER], stream=True)).text)
    starts = [event["content_block"]["type"] for event in told if event["type"] == "content_block_start"]
    assert starts == ["text", "tool_use"]
    parts = [event["delta"].get("partial_json", "") for event in told if event["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"city": "Rome"}
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


async def test_a_conversation_with_tools(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, HERMES)
    use = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "sun"}]}
    messages = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "See:"}, use]},
        {"role": "user", "content": [result, {"type": "text", "text": "and?"}]},
    ]
    assert (await ask(api, messages=messages, tools=[WEATHER])).status_code == 200
    prompt = prompt_of(api)
    assert 'See:<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}' in prompt
    assert "<tool_response>\nsun\n</tool_response>" in prompt and prompt.count("and?") == 1
    assert prompt.index("sun") < prompt.index("and?")


async def test_thoughts(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, THINKING)
    api.say("<think>Hm.</think>Go.")
    thought, text = (await ask(api)).json()["content"]
    assert thought == {"type": "thinking", "thinking": "Hm.", "signature": ""} and text["text"] == "Go."
    told = sent_events((await ask(api, stream=True)).text)
    starts = [event["content_block"]["type"] for event in told if event["type"] == "content_block_start"]
    assert starts == ["thinking", "text"]
    await ask(api, thinking={"type": "disabled"})
    assert prompt_of(api).endswith("</think>\n\n")


async def test_a_model_that_always_thinks_is_not_told_in_vain_to_stop(make_api: MakeApi, tmp_path: Path) -> None:
    """It was accepted and had no effect."""
    api = with_template(make_api, tmp_path, ALWAYS_THINKING)
    response = await ask(api, thinking={"type": "disabled"})
    assert response.status_code == 400 and response.json()["error"]["param"] == "thinking.type"
    body = {"model": MODEL, "messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}}
    response = await api.client.post("/v1/chat/completions", json=body)
    assert response.json()["error"]["param"] == "chat_template_kwargs.enable_thinking"


async def test_json_of_a_schema(api: Api) -> None:
    shape = {"type": "json_schema", "schema": {"const": 5}}
    assert (await ask(api, output_config={"format": shape})).status_code == 200
    assert [step.name for step in api.engine.requests[-1].decoding.chain] == ["grammar"]


async def test_counting(api: Api) -> None:
    asked = {"model": MODEL, "messages": HELLO, "system": "Be brief."}
    counted = (await api.client.post("/v1/messages/count_tokens", json=asked)).json()
    usage = (await ask(api, system="Be brief.")).json()["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": "x"}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages.0.content.0.type"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages.0.content.0.text"),
    ({"messages": [{"role": "user", "content": "x", "wit": 1}]}, "messages.0.wit"),
    ({"system": 1}, "system"),
    ({"stop_sequences": ["a", ""]}, "stop_sequences.1"),
    ({"temperature": 9}, "temperature"),
    ({"tempreature": 1}, "tempreature"),
    ({"n": 2}, "n"),
    ({"chain_trace": True}, "chain_trace"),
    ({"decoding": {"strategy": "stochastic_beam", "width": 3}}, "decoding.n"),
    ({"tools": [{"name": "a"}]}, "tools.0.input_schema"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
    ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.name"),
    ({"tools": [{"name": "a", "input_schema": []}]}, "tools.0.input_schema"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
    ({"output_config": {"format": {"type": "json"}}}, "output_config.format"),
    ({"output_config": {"effort": "low"}}, "output_config.effort"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_refusals(make_api: MakeApi, tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    api = with_template(make_api, tmp_path, HERMES)
    response = await ask(api, **fields)
    body = response.json()
    assert response.status_code == 400 and body["type"] == "error", response.text
    assert (body["error"]["type"], body["error"]["param"]) == ("invalid_request_error", param)
    assert body["error"]["message"].startswith(f"{param}: ")


async def test_other_errors(make_api: MakeApi) -> None:
    api = make_api(api_key=("secret",))
    refused = await ask(api)
    assert refused.status_code == 401 and refused.json()["error"]["type"] == "authentication_error"
    api.client.headers["x-api-key"] = "secret"
    assert (await ask(api)).status_code == 200
    missing = await ask(api, model="other")
    assert missing.status_code == 404 and missing.json()["error"]["type"] == "not_found_error"
    api.engine.refusal = QueueFull(9, 3)
    full = await ask(api)
    assert full.status_code == 429 and full.json()["error"]["type"] == "rate_limit_error"
    assert full.headers["retry-after"] == "3"
    assert (await api.client.get("/v1/messages")).json()["type"] == "error"


async def test_a_fault_in_a_stream(api: Api) -> None:
    api.engine.fault = RequestFailed("it broke")
    told = sent_events((await ask(api, stream=True)).text)
    assert told[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "it broke", "param": None, "code": "generation_failed"},
    }


async def test_models_in_the_shapes_of_who_asks(api: Api) -> None:
    """Anthropic's client refused the list, which had OpenAI's shape: both ask at the same address."""
    version = {"anthropic-version": "2023-06-01"}
    listed = (await api.client.get("/v1/models", headers=version)).json()
    names = [model["id"] for model in listed["data"]]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (names[0], names[-1], False)
    one = (await api.client.get(f"/v1/models/{MODEL}", headers=version)).json()
    assert one in listed["data"] and (one["type"], one["lifecycle"]) == ("model", "active")
    assert [model["id"] for model in (await api.client.get("/v1/models")).json()["data"]] == names
    assert (await api.client.get("/v1/models/other", headers=version)).status_code == 404
