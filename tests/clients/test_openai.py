"""OpenAI's client for Python. It checks every reply against its own types."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest
from real_server import Served

openai = pytest.importorskip("openai", reason="the package openai is not installed")
import pydantic  # noqa: E402

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "user", "content": "What is 3 plus 4?"}]


class Verdict(pydantic.BaseModel):
    answer: Literal["yes", "no"]
    is_sure: bool


class Weather(pydantic.BaseModel):
    """Tells the weather."""

    city: Literal["Rome", "Oslo"]


@pytest.fixture
def client(demo: Served) -> Iterator[Any]:
    with openai.OpenAI(
        base_url=f"{demo.url}/v1", api_key="-", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def caller(tools: Served) -> Iterator[Any]:
    with openai.OpenAI(
        base_url=f"{tools.url}/v1", api_key="-", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
async def narrow_client(narrow: Served) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{narrow.url}/v1", api_key="right", max_retries=0) as client:
        yield client


def test_chat(client: Any) -> None:
    reply = client.chat.completions.create(
        model="demo", messages=MESSAGES, n=2, seed=7, logprobs=True, top_logprobs=3, max_completion_tokens=30
    )
    assert [choice.index for choice in reply.choices] == [0, 1]
    for choice in reply.choices:
        told = bytes(byte for token in choice.logprobs.content for byte in token.bytes)
        assert told.decode().startswith(choice.message.content)
        assert all(len(token.top_logprobs) == 3 for token in choice.logprobs.content)
    again = client.chat.completions.create(model="demo", messages=MESSAGES, n=2, seed=7, max_tokens=30)
    assert [c.message.content for c in again.choices] == [c.message.content for c in reply.choices]
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_completions(client: Any) -> None:
    reply = client.completions.create(model="demo", prompt=["Once", "The"], n=2, max_tokens=5, logprobs=2, seed=1)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert all(len(choice.logprobs.tokens) == 5 for choice in reply.choices)
    streamed = ["", "", "", ""]
    # Unchecked: its type has no null for the finish reason of a chunk, which OpenAI's own chunks have.
    with openai.OpenAI(base_url=client.base_url, api_key="-", max_retries=0) as lax:
        for chunk in lax.completions.create(
            model="demo", prompt=["Once", "The"], n=2, max_tokens=5, seed=1, stream=True
        ):
            for choice in chunk.choices:
                streamed[choice.index] += choice.text
    assert streamed == [choice.text for choice in reply.choices]


def test_stream_helper(client: Any) -> None:
    asked: Any = {"model": "demo", "messages": MESSAGES, "seed": 3, "max_tokens": 30}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(
        **asked, logprobs=True, top_logprobs=1, stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert "".join(event.delta for event in events if event.type == "content.delta") == final.choices[0].message.content
    assert final.usage.completion_tokens == whole.usage.completion_tokens == len(final.choices[0].logprobs.content)
    assert {"chunk", "content.done", "logprobs.content.done"} <= {event.type for event in events}


def test_parse(client: Any) -> None:
    asked: Any = {"model": "demo", "messages": MESSAGES, "response_format": Verdict, "temperature": 0}
    verdict = client.chat.completions.parse(**asked).choices[0].message.parsed
    assert isinstance(verdict, Verdict)
    with client.chat.completions.stream(**asked) as stream:
        assert [event.parsed for event in stream if event.type == "content.done"] == [verdict]


def test_tools(caller: Any) -> None:
    tool = openai.pydantic_function_tool(Weather)
    asked: Any = {"model": "tools", "messages": MESSAGES, "tools": [tool], "tool_choice": "required", "seed": 5}
    choice = caller.chat.completions.parse(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "Weather" and isinstance(call.function.parsed_arguments, Weather)
    with caller.chat.completions.stream(**asked) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    assert [event.parsed_arguments for event in done] == [
        each.function.parsed_arguments for each in final.message.tool_calls
    ]
    assert done[0].parsed_arguments == call.function.parsed_arguments and final.finish_reason == "tool_calls"
    # What the model called goes back with what it gave.
    messages = [
        *MESSAGES,
        choice.message.model_dump(
            exclude_none=True, exclude={"tool_calls": {"__all__": {"function": {"parsed_arguments"}}}}
        ),
        *({"role": "tool", "tool_call_id": each.id, "content": "rain"} for each in choice.message.tool_calls),
    ]
    answer = caller.chat.completions.create(
        model="tools", messages=messages, tools=[tool], tool_choice="none", max_tokens=10
    )
    assert answer.choices[0].message.tool_calls is None


def test_named_tool(caller: Any) -> None:
    named: Any = {"type": "function", "function": {"name": "Weather"}}
    reply = caller.chat.completions.create(
        model="tools",
        messages=MESSAGES,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice=named,
        parallel_tool_calls=False,
    )
    (call,) = reply.choices[0].message.tool_calls
    assert Weather.model_validate_json(call.function.arguments).city in ("Rome", "Oslo")


def test_responses(client: Any) -> None:
    reply = client.responses.create(model="demo", input="What is 3 plus 4?", max_output_tokens=30, temperature=0)
    assert reply.status == "completed" and reply.output_text
    with client.responses.stream(
        model="demo", input="What is 3 plus 4?", max_output_tokens=30, temperature=0
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text == stream.get_final_response().output_text == reply.output_text
    parsed = client.responses.parse(model="demo", input="Is it so?", text_format=Verdict, temperature=0)
    assert isinstance(parsed.output_parsed, Verdict)


def test_responses_tools(caller: Any) -> None:
    reply = caller.responses.parse(
        model="tools",
        input="Weather in Rome?",
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        temperature=0,
    )
    calls = [item for item in reply.output if item.type == "function_call"]
    assert calls and all(isinstance(call.parsed_arguments, Weather) for call in calls)


def test_embeddings(demo: Served, client: Any) -> None:
    """The client asks for base64 unless told otherwise, and gives numbers."""
    # Unchecked: the client checks before it decodes, and takes no base64 for numbers.
    lax = openai.OpenAI(base_url=f"{demo.url}/v1", api_key="-", max_retries=0)
    texts = ["A mouse lived in a cottage.", "A mouse lived in a house.", "3 + 4 = 7"]
    with lax:
        reply = lax.embeddings.create(model="demo", input=texts)
        short = lax.embeddings.create(model="demo", input=texts[0], dimensions=8).data[0].embedding
    assert [one.index for one in reply.data] == [0, 1, 2] and reply.usage.total_tokens == reply.usage.prompt_tokens > 0
    vectors = [one.embedding for one in reply.data]
    assert all(math.hypot(*vector) == pytest.approx(1) for vector in vectors)
    mouse, house, sum_of_two = vectors
    assert math.dist(mouse, house) < math.dist(mouse, sum_of_two)
    told = client.embeddings.create(model="demo", input=texts, encoding_format="float")
    assert told.data[0].embedding == pytest.approx(mouse, abs=1e-6)
    length = math.hypot(*mouse[:8])
    assert short == pytest.approx([number / length for number in mouse[:8]], abs=1e-2)  # another batch
    with pytest.raises(openai.BadRequestError) as bad:
        client.embeddings.create(model="demo", input=texts, dimensions=10**6)
    assert bad.value.param == "dimensions"


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"


def test_what_is_wrong_is_told_by_the_fields_name(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="demo", messages=MESSAGES, temperature=9)
    assert (bad.value.param, bad.value.code) == ("temperature", "invalid_value")
    assert bad.value.request_id is not None and bad.value.request_id.startswith("req-")
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model="demo", messages=MESSAGES, extra_body={"temprature": 1})
    assert unknown.value.param == "temprature" and "'temperature'" in str(unknown.value)
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="demo", messages=MESSAGES, response_format=Verdict, max_tokens=2)


async def test_a_wrong_key(narrow: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{narrow.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_retries_after_429(narrow_client: Any) -> None:
    """One request runs and one waits; the others are told to come again. The client does, and all are answered."""

    async def ask(client: Any, index: int) -> str:
        text = f"Story {index}:"
        reply = await client.completions.create(
            model="demo", prompt=text, max_tokens=300, seed=index, extra_body={"ignore_eos": True}
        )
        assert reply.usage.completion_tokens == 300
        return str(reply.choices[0].text)

    told = await asyncio.gather(*(ask(narrow_client, i) for i in range(4)), return_exceptions=True)
    full = [one for one in told if isinstance(one, openai.RateLimitError)]
    answered = [one for one in told if isinstance(one, str)]
    assert len(full) + len(answered) == 4 and full and answered
    assert all(int(one.response.headers["retry-after"]) >= 1 and one.code == "queue_full" for one in full)
    texts = await asyncio.gather(*(ask(narrow_client.with_options(max_retries=60), i) for i in range(4)))
    assert [one for one in told if isinstance(one, str)] == [
        text for text, one in zip(texts, told, strict=True) if isinstance(one, str)
    ]


async def test_leaving_a_stream_frees_its_place(narrow_client: Any) -> None:
    """Where one request runs at a time, the next one would else wait for 900 tokens that nobody reads."""
    for _ in range(5):
        stream = await narrow_client.completions.create(
            model="demo", prompt="Once", max_tokens=900, stream=True, extra_body={"ignore_eos": True}
        )
        async with stream:
            async for chunk in stream:
                assert chunk.choices[0].finish_reason is None
                break
    reply = await narrow_client.with_options(max_retries=60).completions.create(model="demo", prompt="x", max_tokens=3)
    assert reply.usage.completion_tokens == 3


async def test_async_stream_of_chunks(demo: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="-", max_retries=0) as client:
        asked: Any = {"model": "demo", "messages": MESSAGES, "seed": 11, "n": 3}
        whole = await client.chat.completions.create(**asked)
        texts = ["", "", ""]
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert texts == [choice.message.content for choice in whole.choices]
        async with client.chat.completions.stream(model="demo", messages=MESSAGES, response_format=Verdict) as stream:
            final = await stream.get_final_completion()
        assert isinstance(final.choices[0].message.parsed, Verdict)


def test_our_own_fields_and_replies(client: Any) -> None:
    reply = client.chat.completions.with_raw_response.create(
        model="demo",
        messages=MESSAGES,
        max_tokens=8,
        extra_headers={"x-request-id": "mine-1"},
        extra_body={"decoding": {"strategy": "beam", "width": 3, "n": 2}},
    )
    assert reply.headers["x-request-id"] == "mine-1"
    scores = [choice["score"] for choice in json.loads(reply.text)["choices"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert len(reply.parse().choices) == 2
