"""`/v1/responses` on the wire: what goes into the prompt, what is refused, what is kept. Its client: beside this."""

import copy
import functools
import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_api import MODEL, Api, MakeApi, sent_events
from templated_api import prompt_of, with_template
from tool_templates import HERMES, MISTRAL, THINKING

from penstock_engine.errors import RequestRefused
from penstock_server.errors import BadRequest
from penstock_server.replies.responses_store import ResponseStore, Stored
from penstock_server.schemas import unsupported
from penstock_server.schemas.responses import KNOWN, REFUSED, read_responses

pytestmark = pytest.mark.anyio

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "sun"}


async def ask(api: Api, **fields: object) -> httpx.Response:
    return await api.client.post("/v1/responses", json={"model": MODEL, "input": "Hello", **fields})


async def test_the_whole_reply(api: Api) -> None:
    api.say("Hi there")
    got = (await ask(api, seed=5, user="u", metadata={"k": "v"}, temperature=0.5)).json()
    assert got.pop("id").startswith("resp_") and got["output"][0].pop("id").startswith("msg_")
    assert 0 <= got.pop("completed_at") - got.pop("created_at") < 100
    assert got.pop("usage")["output_tokens_details"] == {"reasoning_tokens": 0}
    part = {"type": "output_text", "text": "Hi there", "annotations": [], "logprobs": []}
    assert got == {
        "object": "response", "status": "completed", "error": None, "incomplete_details": None, "model": MODEL,
        "output": [{"type": "message", "role": "assistant", "status": "completed", "content": [part]}],
        "seed": 5, "instructions": None, "previous_response_id": None, "max_output_tokens": None,
        "temperature": 0.5, "top_p": 1.0, "top_logprobs": 0, "tools": [], "tool_choice": "auto",
        "parallel_tool_calls": True, "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "reasoning": {"effort": None, "summary": None}, "truncation": "disabled", "store": False,
        "metadata": {"k": "v"}, "background": False, "max_tool_calls": None, "service_tier": "default",
        "user": "u", "safety_identifier": None, "prompt_cache_key": None, "prompt_cache_retention": None,
    }  # fmt: skip


async def test_the_last_event_is_the_whole_reply(api: Api) -> None:
    fields: dict[str, Any] = {"seed": 5, "max_output_tokens": 4, "tools": [], "decoding": {"chain": []}}
    whole = (await ask(api, **fields)).json()
    streamed = sent_events((await ask(api, stream=True, stream_options={"include_obfuscation": False}, **fields)).text)
    assert streamed[-1]["type"] == "response.incomplete" and streamed[-1]["response"]["temperature"] is None
    last = streamed[-1]["response"]
    for told in (whole, last):
        del told["id"], told["created_at"], told["output"][0]["id"]
    assert last == whole


async def test_an_empty_answer_is_an_empty_message(api: Api) -> None:
    api.say("")
    (message,) = (await ask(api)).json()["output"]
    assert message["content"][0]["text"] == "" and message["status"] == "completed"
    told = sent_events((await ask(api, stream=True)).text)
    assert [event["type"].removeprefix("response.") for event in told[2:]] == [
        "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip


async def test_items_become_messages(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, HERMES)
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in "ab"]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "See:"}], "phase": None},
        CALL,
        {**CALL, "call_id": "c2"},
        RESULT,
        {**RESULT, "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
        {"role": "assistant", "content": "Both."},
        {"role": "user", "content": "And?"},
    ]
    response = await ask(api, instructions="Be brief.", input=items)
    assert response.status_code == 200, response.text
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\na\nb<|im_end|>\n"
        "<|im_start|>assistant\nSee:"
        '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
        '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsun\n</tool_response><|im_end|>"
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>"
        "<|im_start|>assistant\nBoth.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompt_of(api).replace("\n", "") == expected.replace("\n", "")


async def test_thoughts_go_back_into_the_prompt(make_api: MakeApi, tmp_path: Path) -> None:
    """With the message that follows them; a summary stands for thoughts that another server kept to itself."""
    template = HERMES.replace("{{ message.content }}", "({{ message.reasoning_content }}){{ message.content }}")
    api = with_template(make_api, tmp_path, template)
    thoughts = (
        {"content": [{"type": "reasoning_text", "text": "Hm."}], "summary": []},
        {"summary": [{"type": "summary_text", "text": "Hm."}]},
    )
    for thought in thoughts:
        said = {"role": "assistant", "content": "So."}
        await ask(api, input=[{"type": "reasoning", **thought}, said, {"role": "user", "content": "And?"}])
        assert "assistant\n(Hm.)So.<|im_end|>" in prompt_of(api)


async def test_calls_have_the_ids_that_the_model_wants(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, MISTRAL)
    api.say('[TOOL_CALLS] [{"name": "weather", "arguments": {}}]')
    got = (await ask(api, tools=[WEATHER], tool_choice={"type": "function", "name": "weather"})).json()
    call = got["output"][0]
    assert len(call["call_id"]) == 9 and call["id"].startswith("fc_")
    assert got["tool_choice"] == {"type": "function", "name": "weather"}
    assert got["tools"] == [{**WEATHER, "description": None, "strict": True}]
    assert api.engine.requests[-1].decoding.chain[0].name == "grammar"


async def test_effort(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, HERMES + "{{ reasoning_effort }}")
    got = (await ask(api, reasoning={"effort": "high", "summary": "auto"})).json()
    assert prompt_of(api).endswith("high") and got["reasoning"] == {"effort": "high", "summary": None}


@pytest.mark.parametrize("kind", ["json_object", "json_schema", "text"])
async def test_formats(api: Api, kind: str) -> None:
    wanted: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        wanted |= {"name": "five", "schema": {"const": 5}, "strict": True}
    got = (await ask(api, text={"format": wanted})).json()
    steps = [step.name for step in api.engine.requests[-1].decoding.chain]
    assert steps == ([] if kind == "text" else ["grammar"])
    assert got["text"]["format"] == wanted | ({"description": None} if kind == "json_schema" else {})


async def test_decoding_fields_and_what_they_tell(real: Api) -> None:
    fields: dict[str, Any] = {"seed": 3, "max_output_tokens": 5, "top_k": 3, "chain_trace": True}
    got = (await ask(real, **fields)).json()
    assert [len(token["steps"]) for token in got["chain_trace"]["content"]] == [1] * 5
    last = sent_events((await ask(real, stream=True, **fields)).text)[-1]["response"]
    assert last["chain_trace"] == got["chain_trace"]
    beam = {"decoding": {"strategy": "beam", "width": 3}, "max_output_tokens": 5}
    found = (await ask(real, **beam)).json()
    streamed = sent_events((await ask(real, stream=True, **beam)).text)[-1]["response"]
    assert found["score"] == streamed["score"] < 0
    assert found["output"][0]["content"] == streamed["output"][0]["content"]


async def test_tokens_settled_together_keep_their_places(real: Api) -> None:
    """A search tells many tokens in one step: each log-probability still stands once, in order."""
    fields: dict[str, Any] = {"include": ["message.output_text.logprobs"], "num_beams": 3, "max_output_tokens": 6}
    (whole,) = (await ask(real, **fields)).json()["output"]
    told = sent_events((await ask(real, stream=True, **fields)).text)
    deltas = [event for event in told if event["type"] == "response.output_text.delta"]
    assert [logprob for event in deltas for logprob in event["logprobs"]] == whole["content"][0]["logprobs"]
    assert len(whole["content"][0]["logprobs"]) == 6


async def test_truncation(make_api: MakeApi) -> None:
    """The oldest messages go, from one of the user to the next; instructions stay; what is left is the longest fit."""
    api = make_api(max_model_len=200)
    turns = [{"role": role, "content": f"{i}" * 8} for i in range(8) for role in ("user", "assistant")]
    items = [*turns, {"role": "user", "content": "And?"}]
    fields: dict[str, Any] = {"input": items, "instructions": "Be brief.", "max_output_tokens": 10}
    refused = await ask(api, **fields)
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "context_length_exceeded"
    assert refused.json()["error"]["param"] == "input"
    assert (await ask(api, truncation="auto", **fields)).json()["truncation"] == "auto"
    prompt = prompt_of(api)
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    first = int(prompt.split("<|im_start|>user\n")[1][0])
    assert first > 0 and [i for i in range(8) if f"{i}" * 8 in prompt] == list(range(first, 8))
    one_more = [*turns[2 * (first - 1) :], {"role": "user", "content": "And?"}]
    assert (await ask(api, **fields | {"input": one_more})).status_code == 400
    too_long = await ask(api, truncation="auto", input="x" * 999)
    assert too_long.status_code == 400 and too_long.json()["error"]["code"] == "context_length_exceeded"


async def test_what_is_listed_of_stored_items(api: Api) -> None:
    got = (
        await ask(api, input=[{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "a"}], store=True)
    ).json()
    url = f"/v1/responses/{got['id']}"
    listed = (await api.client.get(f"{url}/input_items", params={"order": "asc", "limit": "1"})).json()
    (item,) = listed["data"]
    assert item["id"].startswith("msg_") and listed["first_id"] == listed["last_id"] == item.pop("id")
    part = {"type": "output_text", "text": "Hi", "annotations": []}
    assert item == {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
    assert listed["object"] == "list" and listed["has_more"] is True
    assert (await api.client.get(url)).json() == got
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=x", "page=2"):
        refused = await api.client.get(f"{url}/input_items?{query}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, query.partition("=")[0]), query
    assert (await api.client.get(f"{url}?stream=true")).json()["error"]["param"] == "stream"
    assert (await api.client.delete(url)).json() == {"id": got["id"], "object": "response", "deleted": True}
    gone = await api.client.get(url)
    assert gone.status_code == 404 and gone.json()["error"]["code"] == "response_not_found"


def test_the_store_forgets_the_oldest_first() -> None:
    one = {"id": "resp_0", "output": ["x" * 90]}
    store = ResponseStore(max_bytes=500)
    for i in range(6):
        store.keep(f"resp_{i}", Stored.of(one | {"id": f"resp_{i}"}, [{"id": i}]))
    kept = [i for i in range(6) if store.get(f"resp_{i}") is not None]
    assert kept == [3, 4, 5] or kept == [2, 3, 4, 5]
    latest = store.get("resp_5")
    assert latest is not None and latest.conversation() == [{"id": 5}, "x" * 90]
    store.keep("resp_large", Stored.of(one | {"output": ["x" * 999]}, []))
    assert store.get("resp_5") is None and store.get("resp_large") is not None
    assert store.forget("resp_large") and not store.forget("resp_large")
    store.keep("resp_0", Stored.of(one, []))
    assert store.get("resp_0") is not None


def call_with(**fields: object) -> dict[str, Any]:
    return {"input": [{**CALL, **fields}]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["x"]}, "input.0"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
    ({"input": [{"role": "user"}]}, "input.0.content"),
    ({"input": [{"role": "user", "content": "x", "wit": 1}]}, "input.0.wit"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.0.content.0.type"),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]}, "input.0.content.0.text"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type"),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input.0.type"),
    ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, "input.0.encrypted_content"),
    ({"input": [RESULT]}, "input.0.call_id"),
    ({"input": [CALL, {**RESULT, "output": None}]}, "input.1.output"),
    (call_with(arguments="{"), "input.0.arguments"),
    (call_with(arguments={}), "input.0.arguments"),
    (call_with(call_id=5), "input.0.call_id"),
    (call_with(name=5), "input.0.name"),
    ({"input": [{"role": "user", "content": "x"}, CALL, {**CALL, "call_id": "c2", "name": 5}]}, "input.2.name"),
    ({"instructions": 5}, "instructions"),
    ({"max_output_tokens": -1}, "max_output_tokens"),
    ({"max_output_tokens": 100_000}, "max_output_tokens"),
    ({"max_tokens": 5}, "max_tokens"),
    ({"temperature": 9}, "temperature"),
    ({"tempreature": 1}, "tempreature"),
    ({"n": 2}, "n"),
    ({"decoding": {"strategy": "stochastic_beam", "width": 3}}, "decoding.n"),
    ({"include": "x"}, "include"),
    ({"include": ["message.output_text.logprobs", "file_search_call.results"]}, "include.1"),
    ({"include": ["message.output_text.logprobs"], "top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"text": "x"}, "text"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"text": {"format": "x"}}, "text.format"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": 5}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {}, "strict": 5}}}, "text.format.strict"),
    ({"tools": 5}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools.0.function"),
    ({"tools": [WEATHER, {**WEATHER, "name": "a b"}]}, "tools.1.name"),
    ({"tools": [{**WEATHER, "parameters": []}]}, "tools.0.parameters"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools.0.defer_loading"),
    ({"tools": [WEATHER], "tool_choice": "some"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice.type"),
    ({"tools": [WEATHER], "parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
    ({"reasoning": {"effort": 5}}, "reasoning.effort"),
    ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    ({"stream": "x"}, "stream"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"stream": True, "stream_options": {"decoding_events": True}}, "stream_options.decoding_events"),
    ({"store": "x"}, "store"),
    ({"truncation": "some"}, "truncation"),
    ({"previous_response_id": "resp_x"}, "previous_response_id"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a"),
    ({"user": 5}, "user"),
    *(({name: 7}, name) for name in REFUSED),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
async def test_refusals(make_api: MakeApi, tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    api = with_template(make_api, tmp_path, HERMES)
    response = await ask(api, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error
    assert error["message"].startswith(f"{param}: ")
    assert "completion_tokens" not in error["message"] and "response_format" not in error["message"]
    assert not api.engine.requests


FULL: dict[str, Any] = {
    "model": MODEL,
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "s"}],
            "content": [{"type": "reasoning_text", "text": "t"}],
        },
        {"type": "message", "role": "assistant", "content": "b", "id": "msg_1", "status": "completed", "phase": None},
        {**CALL, "id": "fc_1"},
        {**RESULT, "output": [{"type": "input_text", "text": "sun"}]},
        {"role": "user", "content": "c"},
    ],
    "instructions": "i",
    "previous_response_id": "resp_1",
    "max_output_tokens": 5,
    "temperature": 1,
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 2,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
    "tools": [{**WEATHER, "description": "d", "strict": True}],
    "tool_choice": {"type": "function", "name": "weather"},
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low", "summary": "auto"},
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "store": True,
    "truncation": "auto",
    "metadata": {"a": "b"},
    "user": "u",
}
STRANGE: list[Any] = [True, False, 0, -1, 1.5, "", "x", [], {}, [1], ["x"], {"a": 1}, {"type": "x"}, [[]], [{}]]
# A field that another one needs or contradicts.
NEEDED_BY = {"include": "top_logprobs", "stream": "stream_options"}


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        yield (*path, key)
        yield from places_in(inner, (*path, key))


@pytest.mark.parametrize("place", list(places_in(FULL)), ids=lambda place: ".".join(map(str, place)))
def test_whatever_stands_anywhere_is_taken_or_named(place: tuple[Any, ...]) -> None:
    num_refused = 0
    for strange in STRANGE:
        body = copy.deepcopy(FULL)
        *above, last = place
        functools.reduce(operator.getitem, above, body)[last] = strange
        try:
            read = read_responses(json.dumps(body).encode(), lambda response_id: [{"role": "user", "content": "x"}])
        except BadRequest as error:
            num_refused += 1
            assert error.param is not None and error.param.partition(".")[0] in (place[0], NEEDED_BY.get(place[0]))
        else:
            assert all(isinstance(item["id"], str) and isinstance(item["status"], str) for item in read.items)
    assert num_refused or place[0] in (
        "temperature",
        "text",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
    )  # the plan's


async def test_what_the_engine_refuses_is_told_in_this_body_s_names(api: Api) -> None:
    api.engine.refusal = RequestRefused("grammar", "does not compile")
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    for fields, param in (({"text": {"format": wanted}}, "text.format.schema"), ({"top_k": 3}, "grammar")):
        refused = await ask(api, **fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_what_asks_for_nothing_is_accepted(api: Api) -> None:
    neutral = {name: values[0] for name, values in REFUSED.items() if values}
    inert = dict.fromkeys(unsupported.INERT - {"metadata"}, "x")
    nothing: dict[str, Any] = dict.fromkeys((*KNOWN, *REFUSED), None)
    accepted = (
        nothing | neutral | inert | {"model": MODEL, "input": "Hello", "include": ["reasoning.encrypted_content"]}
    )
    response = await ask(api, **accepted)
    assert response.status_code == 200, response.text
    assert len(neutral) >= 2


async def test_a_cut_call_cannot_be_gone_on_from(make_api: MakeApi, tmp_path: Path) -> None:
    """Its arguments are no JSON: the error names the response, which is all that the body has of it."""
    api = with_template(make_api, tmp_path, THINKING)
    api.say('<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}')
    most = len(api.encode('<tool_call>\n{"name": "weather", "arguments": {"ci'))
    cut = (await ask(api, tools=[WEATHER], max_output_tokens=most, store=True)).json()
    assert cut["output"][0]["status"] == "incomplete" and cut["output"][0]["arguments"].startswith("{")
    refused = await ask(api, previous_response_id=cut["id"])
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "previous_response_id"
