"""Tools over HTTP: offered in the model's own template, called in its own words, told in OpenAI's."""

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fake_engine import fake_info
from server_api import MODEL, Api, MakeApi, listening
from small_tokenizers import byte_level, write_text_folder
from stepping_engine import SteppingEngine, letters_script
from templated_api import prompt_of
from tool_templates import ALWAYS_THINKING, HERMES, LLAMA3, MISTRAL, TEMPLATES, THINKING

from penstock_server.app import create_app
from penstock_server.context import ServerContext
from penstock_server.model import ServedModel
from penstock_server.settings import ServerConfig

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA},
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
ARGUMENTS = '{"city": "Rome", "days": 2}'
SAID = {
    "hermes": f'I look.\n<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "llama3": f'{{"name": "weather", "parameters": {ARGUMENTS}}}',
    "mistral": f'[TOOL_CALLS] [{{"name": "weather", "arguments": {ARGUMENTS}}}]',
    "mistral_args": f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}",
}


def model_with(folder: Path, template: str, special: list[str] | None = None) -> ServedModel:
    tokenizer = byte_level()
    tokenizer.add_special_tokens(special or [])
    write_text_folder(folder, tokenizer, chat_template=template, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    return ServedModel.load(folder, [MODEL])


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("marks", [[], ["[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>"]])
async def test_a_call(make_api: MakeApi, tmp_path: Path, kind: str, marks: list[str]) -> None:
    """Whole and streamed, also where the marks are special tokens, which texts do not show otherwise."""
    api = make_api(model_with(tmp_path, TEMPLATES[kind], marks), max_model_len=2048)
    api.say(SAID[kind])
    async with listening(api) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Rome?"}], "tools": TOOLS}
        whole = await client.chat.completions.create(**asked)
        async with client.chat.completions.stream(**asked) as stream:
            async for _ in stream:
                pass
            streamed = await stream.get_final_completion()
    assert '"name": "weather"' in prompt_of(api) and "Tells the weather." in prompt_of(api)
    for choice in (whole.choices[0], streamed.choices[0]):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == ("I look." if kind == "hermes" else None)
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function" and call.function.name == "weather" and call.function.arguments == ARGUMENTS
        assert len(call.id) == (9 if kind.startswith("mistral") else 29)


async def test_the_deltas(make_api: MakeApi, tmp_path: Path) -> None:
    api = make_api(model_with(tmp_path, HERMES), max_model_len=2048)
    api.say(SAID["hermes"])
    response = await api.chat(tools=TOOLS, stream=True, logprobs=True)
    choices = [json.loads(line[6:])["choices"][0] for line in response.text.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0] == {"role": "assistant", "content": None} and deltas[-1] == {}
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert {call["index"] for call in calls} == {0}
    assert calls[0]["function"] == {"name": "weather", "arguments": ""} and calls[0]["id"].startswith("call_")
    assert all(call.keys() == {"index", "function"} for call in calls[1:]) and len(calls) > 4
    assert "".join(call["function"]["arguments"] for call in calls) == ARGUMENTS
    # Every token is told of once, wherever its text went.
    told = [entry["token"] for choice in choices for entry in (choice["logprobs"] or {"content": []})["content"]]
    assert "".join(told) == SAID["hermes"] + "<|im_end|>"


async def test_a_conversation_with_calls(make_api: MakeApi, tmp_path: Path) -> None:
    api = make_api(model_with(tmp_path, HERMES), max_model_len=2048)
    api.say("Sunny.")
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    messages = [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    ]
    response = await api.chat(messages=messages, tools=TOOLS)
    assert response.json()["choices"][0]["message"] == {"role": "assistant", "content": "Sunny.", "refusal": None}
    assert f'{{"name": "weather", "arguments": {ARGUMENTS}}}' in prompt_of(api)
    assert "<tool_response>\nsun\n</tool_response>" in prompt_of(api)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "weather"}}, "stop"), ("auto", None)],
)
@pytest.mark.parametrize(("kind", "chained"), [*((kind, False) for kind in TEMPLATES), ("hermes", True)])
async def test_answers_keep_to_the_schemas(
    make_api: MakeApi, tmp_path: Path, kind: str, choice: Any, reason: str | None, chained: bool
) -> None:
    """The model here is noise: without the grammar it would write no call, let alone one that follows the schema."""
    model = model_with(tmp_path, TEMPLATES[kind])
    info = make_api(model).engine.info
    engine = SteppingEngine(
        fake_info(vocab_size=500, eos_token_ids=info.eos_token_ids, max_model_len=2048), letters_script,
        model.codec.vocabulary(),
    )  # fmt: skip
    context = ServerContext.make(engine, model, ServerConfig())
    transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        for seed in range(2):
            body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "tools": TOOLS[:1]}
            body |= {"tool_choice": choice, "seed": seed, "max_tokens": 150, "parallel_tool_calls": False}
            if chained:
                body["decoding"] = {"strategy": "sample", "chain": [{"temperature": 0.7}]}
            got = (await client.post("/v1/chat/completions", json=body)).json()
            message, finish = got["choices"][0]["message"], got["choices"][0]["finish_reason"]
            if reason is None and "tool_calls" not in message:
                continue
            assert finish == (reason or "tool_calls")
            (call,) = message["tool_calls"]
            assert call["function"]["name"] == "weather"
            arguments = json.loads(call["function"]["arguments"])
            assert arguments.keys() == {"city", "days"}
            assert arguments["city"] in ("Rome", "Oslo") and arguments["days"] in range(1, 10)
    await engine.close()


async def test_none(make_api: MakeApi, tmp_path: Path) -> None:
    """The tools stay in the prompt, and whatever the model writes is content."""
    api = make_api(model_with(tmp_path, HERMES), max_model_len=2048)
    api.say(SAID["hermes"])
    (choice,) = (await api.chat(tools=TOOLS, tool_choice="none")).json()["choices"]
    assert choice["message"]["content"] == SAID["hermes"] and choice["finish_reason"] == "stop"
    assert "weather" in prompt_of(api) and not api.engine.requests[-1].decoding.chain


async def test_an_answer_in_json_or_a_call(make_api: MakeApi, tmp_path: Path) -> None:
    api = make_api(model_with(tmp_path, HERMES), max_model_len=2048)
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": 5}}}
    assert (await api.chat(tools=TOOLS, response_format=shape)).status_code == 200
    (step,) = (step for step in api.engine.requests[-1].decoding.chain if step.name == "grammar")
    assert "content: %json" in step.params.lark and "call:" in step.params.lark
    for fields in ({"guided_regex": "a+"}, {"grammar": "start: /a/"}):
        response = await api.chat(tools=TOOLS, **fields)
        assert response.status_code == 400 and response.json()["error"]["param"] == next(iter(fields))


THOUGHT = "<think>\nRome is far.\n</think>\n\nGo."


@pytest.mark.parametrize(
    ("template", "fields", "said", "message"),
    [
        (THINKING, {}, THOUGHT, {"content": "Go.", "reasoning_content": "Rome is far.", "reasoning": "Rome is far."}),
        (THINKING, {}, "Go.", {"content": "Go."}),
        (THINKING, {"include_reasoning": False}, THOUGHT, {"content": "Go."}),
        (THINKING, {"chat_template_kwargs": {"enable_thinking": False}}, "Go.", {"content": "Go."}),
        (
            ALWAYS_THINKING,
            {},
            "Far.\n</think>\nGo.",
            {"content": "Go.", "reasoning_content": "Far.", "reasoning": "Far."},
        ),
        (HERMES, {}, THOUGHT, {"content": THOUGHT}),
    ],
)
async def test_thoughts(
    make_api: MakeApi, tmp_path: Path, template: str, fields: dict[str, Any], said: str, message: dict[str, Any]
) -> None:
    api = make_api(model_with(tmp_path, template), max_model_len=2048)
    api.say(said)
    assert (await api.chat(**fields)).json()["choices"][0]["message"] == {
        "role": "assistant", "refusal": None, **message,
    }  # fmt: skip
    streamed = await api.chat(stream=True, **fields)
    chunks = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    told: dict[str, str] = {}
    for delta in [chunk["choices"][0]["delta"] for chunk in chunks]:
        for key, text in delta.items():
            told[key] = told.get(key, "") + (text or "")
    assert told == {"role": "assistant", **message}


async def test_a_call_after_a_thought_that_the_prompt_began(make_api: MakeApi, tmp_path: Path) -> None:
    api = make_api(model_with(tmp_path, ALWAYS_THINKING), max_model_len=2048)
    api.say("Hm.</think>\n" + SAID["hermes"])
    (choice,) = (await api.chat(tools=TOOLS, tool_choice="required")).json()["choices"]
    assert choice["message"]["reasoning_content"] == "Hm." and len(choice["message"]["tool_calls"]) == 1
    (step,) = api.engine.requests[-1].decoding.chain
    assert "thought" in step.params.lark


BAD: list[tuple[dict[str, Any], str]] = [
    ({"tools": "x"}, "tools"),
    ({"tools": [WEATHER] * 2}, "tools.1.function.name"),
    ({"tools": [CLOCK] * 129}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools.0.function.parameters"),
    (
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
        "tools.0.function.parameters.type",
    ),
    ({"tools": [{"type": "function", "function": {"name": "a", "wit": 1}}]}, "tools.0.function.wit"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
    ({"tools": TOOLS, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"tools": TOOLS, "decoding": {"chain": [{"grammar": {"regex": "a"}}]}}, "decoding.chain.1.grammar"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages.0.tool_calls"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "a", "arguments": "x"}}]}]},
        "messages.0.tool_calls.0.function.arguments",
    ),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_refusals(make_api: MakeApi, tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    api = make_api(model_with(tmp_path, HERMES), max_model_len=2048)
    response = await api.chat(**fields)
    assert response.status_code == 400 and response.json()["error"]["param"] == param, response.text


async def test_models_that_take_no_tools(api: Api, make_api: MakeApi, tmp_path: Path) -> None:
    other = make_api(model_with(tmp_path, "{{ tools }}{{ messages[0].content }}"))
    for one, told in ((api, "takes no tools"), (other, "not known")):
        response = await one.chat(tools=TOOLS)
        assert response.status_code == 400 and response.json()["error"]["param"] == "tools"
        assert told in response.json()["error"]["message"]


async def test_how_hard_to_think(make_api: MakeApi, tmp_path: Path) -> None:
    api = make_api(model_with(tmp_path, "effort: {{ reasoning_effort }} {{ messages[0].content }}"))
    assert (await api.chat(reasoning_effort="low")).status_code == 200
    assert prompt_of(api) == "effort: low Hello"


def test_templates_name_their_marks() -> None:
    assert "<tool_call>" in HERMES and "[TOOL_CALLS]" in MISTRAL and '"parameters"' in LLAMA3
