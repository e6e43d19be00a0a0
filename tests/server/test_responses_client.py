"""The official client against a server on loopback: nothing here knows our shapes but through its types."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from server_api import MODEL, Api, MakeApi, listening
from templated_api import prompt_of, with_template
from tool_templates import HERMES, THINKING

from penstock_engine.errors import RequestFailed

pytestmark = pytest.mark.anyio

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "d",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


@asynccontextmanager
async def client_of(api: Api) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client that checks what it gets against its own types."""
    async with (
        listening(api) as url,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="-", max_retries=0, _strict_response_validation=True
        ) as client,
    ):
        yield client


def text_of(response: Response) -> ResponseOutputText:
    (item,) = response.output
    assert isinstance(item, ResponseOutputMessage)
    (part,) = item.content
    assert isinstance(part, ResponseOutputText)
    return part


async def test_create(api: Api) -> None:
    api.say("Hi 🙂 there")
    async with client_of(api) as client:
        got = await client.responses.create(
            model=MODEL,
            input="Hello",
            instructions="Be brief.",
            max_output_tokens=50,
            metadata={"a": "b"},
            top_logprobs=2,
            include=["message.output_text.logprobs"],
            extra_body={"seed": 5},
        )
        counted = await client.responses.input_tokens.count(model=MODEL, input="Hello", instructions="Be brief.")
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_tokens.count(model="other", input="Hello")
    assert got.usage is not None and counted.input_tokens == got.usage.input_tokens
    assert (got.output_text, got.status, got.error, got.incomplete_details) == ("Hi 🙂 there", "completed", None, None)
    assert (got.instructions, got.max_output_tokens, got.metadata) == ("Be brief.", 50, {"a": "b"})
    assert (got.temperature, got.top_p, got.tool_choice, got.tools) == (1.0, 1.0, "auto", [])
    assert got.model_extra is not None and got.model_extra["seed"] == 5
    assert got.usage.input_tokens == len(api.engine.requests[0].prompt)
    assert got.usage.output_tokens == len(api.encode("Hi 🙂 there")) + 1
    assert got.usage.total_tokens == got.usage.input_tokens + got.usage.output_tokens
    assert got.usage.input_tokens_details.cached_tokens == 4
    logprobs = text_of(got).logprobs
    assert logprobs is not None and len(logprobs) == got.usage.output_tokens
    told = b"".join(bytes(token.bytes) for token in logprobs[:-1])
    assert told.decode() == "Hi 🙂 there"
    assert {len(token.top_logprobs) for token in logprobs} == {2} and {token.logprob for token in logprobs} == {-0.25}


async def test_a_stream_adds_up(api: Api) -> None:
    api.say("Hi 🙂 there")
    include: Any = ["message.output_text.logprobs"]
    async with client_of(api) as client:
        async with client.responses.stream(model=MODEL, input="Hello", include=include, top_logprobs=1) as stream:
            told = [event async for event in stream]
            final = await stream.get_final_response()
        whole = await client.responses.create(model=MODEL, input="Hello", include=include, top_logprobs=1)
    assert [event.sequence_number for event in told] == list(range(len(told)))
    deltas = [event for event in told if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == final.output_text == whole.output_text == "Hi 🙂 there"
    assert len(deltas) > 2 and sum(len(event.logprobs) for event in deltas) == len(api.encode("Hi 🙂 there")) + 1
    assert [event.type for event in told if event not in deltas] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    first = told[0]
    assert first.type == "response.created" and first.response.status == "in_progress" and first.response.output == []
    assert text_of(final).logprobs == text_of(whole).logprobs and final.usage == whole.usage


async def test_parse(api: Api) -> None:
    """A schema goes in, the grammar holds the answer to it, and a value of its class comes out."""

    class Point(pydantic.BaseModel):
        x: int
        label: str

    api.say('{"x": 3, "label": "three"}')
    async with client_of(api) as client:
        got = await client.responses.parse(model=MODEL, input="Hello", text_format=Point)
        async with client.responses.stream(model=MODEL, input="Hello", text_format=Point) as stream:
            final = await stream.get_final_response()
    assert got.output_parsed == Point(x=3, label="three") == final.output_parsed
    assert [[step.name for step in request.decoding.chain] for request in api.engine.requests] == [["grammar"]] * 2
    assert got.text is not None and got.text.format is not None and got.text.format.type == "json_schema"
    assert got.text.format.name == "Point"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_function_calls(make_api: MakeApi, tmp_path: Path, is_streamed: bool) -> None:
    api = with_template(make_api, tmp_path, HERMES)
    api.say(f"Let me see.\n{CALL}\n{CALL.replace('Rome', 'Oslo')}")
    async with client_of(api) as client:
        if is_streamed:
            async with client.responses.stream(model=MODEL, input="Weather?", tools=[WEATHER]) as stream:
                told = [event async for event in stream]
                got: Response = await stream.get_final_response()
            deltas = [event for event in told if event.type == "response.function_call_arguments.delta"]
            assert {event.output_index for event in deltas} == {1, 2}
            second = "".join(event.delta for event in deltas if event.output_index == 2)
            assert json.loads(second) == {"city": "Oslo"}
            done = [event for event in told if event.type == "response.function_call_arguments.done"]
            assert [json.loads(event.arguments)["city"] for event in done] == ["Rome", "Oslo"]
        else:
            got = await client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])
        message, *calls = got.output
        assert isinstance(message, ResponseOutputMessage) and got.output_text == "Let me see."
        assert got.status == "completed" and got.tools[0].type == "function"
        history: list[Any] = [{"role": "user", "content": "Weather?"}, *got.output]
        for call in calls:
            assert isinstance(call, ResponseFunctionToolCall) and call.name == "weather"
            assert call.status == "completed" and call.call_id.startswith("call_")
            result = [{"type": "input_text", "text": "sun"}] if call is calls[0] else "rain"
            history.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
        api.say("Sun and rain.")
        after = await client.responses.create(model=MODEL, input=history, tools=[WEATHER])
    assert after.output_text == "Sun and rain."
    prompt = prompt_of(api)
    assert prompt.index("Let me see.") < prompt.index('"Rome"') < prompt.index('"Oslo"') < prompt.index("sun")
    assert prompt.index("sun") < prompt.index("rain") and prompt.count("<|im_start|>assistant") == 2


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_thoughts(make_api: MakeApi, tmp_path: Path, is_streamed: bool) -> None:
    """Tokens of the thought are counted, and are no part of the log-probabilities of what is said."""
    api = with_template(make_api, tmp_path, THINKING)
    api.say("<think>Hm, so.</think>Go.")
    include: Any = ["message.output_text.logprobs"]
    async with client_of(api) as client:
        if is_streamed:
            async with client.responses.stream(model=MODEL, input="Hello", include=include) as stream:
                told = [event async for event in stream]
                got: Response = await stream.get_final_response()
            thought = [event.delta for event in told if event.type == "response.reasoning_text.delta"]
            assert "".join(thought) == "Hm, so."
            assert "response.reasoning_text.done" in [event.type for event in told]
        else:
            got = await client.responses.create(model=MODEL, input="Hello", include=include)
        reasoning, message = got.output
        assert isinstance(reasoning, ResponseReasoningItem) and reasoning.content is not None
        assert [part.text for part in reasoning.content] == ["Hm, so."] and got.output_text == "Go."
        assert isinstance(message, ResponseOutputMessage) and isinstance(message.content[0], ResponseOutputText)
        said = message.content[0].logprobs
        assert got.usage is not None and said is not None
        num_thought = got.usage.output_tokens_details.reasoning_tokens
        assert num_thought == len(api.encode("<think>Hm, so.</think>"))
        assert [token.token for token in said[:-1]] == list(map(label_of(api), api.encode("Go.")))
        assert num_thought + len(said) == got.usage.output_tokens
        history: list[Any] = [{"role": "user", "content": "Hello"}, *got.output, {"role": "user", "content": "And?"}]
        await client.responses.create(model=MODEL, input=history, reasoning={"effort": "none"})
    assert prompt_of(api).endswith("</think>\n\n") and "Go.<|im_end|>" in prompt_of(api)


def label_of(api: Api) -> Any:
    return api.context.model.codec.tokenizer.label


async def test_a_thought_that_was_cut(make_api: MakeApi, tmp_path: Path) -> None:
    api = with_template(make_api, tmp_path, THINKING)
    api.say("<think>Hm, so and so and so on")
    most = len(api.encode("<think>Hm, so"))
    async with client_of(api) as client:
        got = await client.responses.create(model=MODEL, input="Hello", max_output_tokens=most)
    (reasoning,) = got.output
    assert isinstance(reasoning, ResponseReasoningItem) and reasoning.status == "incomplete"
    assert got.usage is not None and got.usage.output_tokens_details.reasoning_tokens == most
    assert got.status == "incomplete"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_that_was_cut(api: Api, is_streamed: bool) -> None:
    async with client_of(api) as client:
        if is_streamed:
            stream = await client.responses.create(model=MODEL, input="Hello", max_output_tokens=3, stream=True)
            last = [event async for event in stream][-1]
            assert last.type == "response.incomplete"
            got = last.response
        else:
            got = await client.responses.create(model=MODEL, input="Hello", max_output_tokens=3)
    assert got.status == "incomplete" and got.incomplete_details is not None
    assert got.incomplete_details.reason == "max_output_tokens" and got.completed_at is None
    (message,) = got.output
    assert isinstance(message, ResponseOutputMessage) and message.status == "incomplete"
    assert got.output_text == " water" * 3


async def test_stored_responses(api: Api) -> None:
    """A conversation that the server keeps reads the same as one that the client sends along."""
    async with client_of(api) as client:
        api.say("One.")
        first = await client.responses.create(model=MODEL, input="Count.", instructions="Be brief.", store=True)
        assert await client.responses.retrieve(first.id) == first
        api.say("Two.")
        async with client.responses.stream(
            model=MODEL, input="And?", previous_response_id=first.id, store=True
        ) as stream:
            second = await stream.get_final_response()
        assert second.previous_response_id == first.id and second.output_text == "Two."
        kept = prompt_of(api)
        assert "Be brief." not in kept  # instructions are of one response
        sent: list[Any] = [
            {"role": "user", "content": "Count."},
            *first.output,
            {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
        ]
        third = await client.responses.create(model=MODEL, input=sent)
        assert prompt_of(api) == kept
        items = await client.responses.input_items.list(second.id, order="asc")
        assert [json.loads(item.to_json())["content"][0]["text"] for item in items.data] == ["Count.", "One.", "And?"]
        assert [json.loads(item.to_json())["role"] for item in items.data] == ["user", "assistant", "user"]
        page = await client.responses.input_items.list(second.id, limit=2)
        assert [item.id async for item in page] == [item.id for item in reversed(items.data)]
        assert page.has_more and len(page.data) == 2
        await client.responses.delete(first.id)
        await client.responses.retrieve(second.id)
        for gone in (first.id, third.id):
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(gone)
            with pytest.raises(openai.NotFoundError):
                await client.responses.delete(gone)
            with pytest.raises(openai.NotFoundError):
                await client.responses.input_items.list(gone)
            with pytest.raises(openai.BadRequestError) as missing:
                await client.responses.create(model=MODEL, input="And?", previous_response_id=gone)
            assert (missing.value.param, missing.value.code) == (
                "previous_response_id",
                "previous_response_not_found",
            )


async def test_a_fault_in_a_stream(api: Api) -> None:
    def failing(request: object, choice: int, position: int) -> int:
        api.engine.fault = RequestFailed("it broke") if position == 1 else None
        return 65

    api.engine.next_token = failing
    async with client_of(api) as client:
        stream = await client.responses.create(model=MODEL, input="x", stream=True, store=True)
        told = [event async for event in stream]
        error, failed = told[-2:]
        assert error.type == "error" and (error.message, error.code) == ("it broke", "generation_failed")
        assert failed.type == "response.failed" and failed.response.status == "failed"
        assert failed.response.error is not None and failed.response.error.code == "server_error"
        assert len(failed.response.output) == 1
        assert [event.sequence_number for event in told] == list(range(len(told)))
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(failed.response.id)


async def test_errors(make_api: MakeApi) -> None:
    api = make_api(api_key=("right",))
    async with client_of(api) as client:
        for ask in (
            client.responses.create(model=MODEL, input="x"),
            client.responses.retrieve("resp_x"),
            client.responses.delete("resp_x"),
            client.responses.input_items.list("resp_x"),
        ):
            with pytest.raises(openai.AuthenticationError):
                await ask
        client.api_key = "right"
        with pytest.raises(openai.NotFoundError) as missing:
            await client.responses.create(model="other", input="x")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
