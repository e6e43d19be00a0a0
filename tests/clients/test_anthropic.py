"""Anthropic's client for Python. It checks every reply against its own types."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from real_server import Served

anthropic = pytest.importorskip("anthropic", reason="the package anthropic is not installed")
import pydantic  # noqa: E402

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "user", "content": "What is 3 plus 4?"}]
# The client has no field for it any more; the server has.
GREEDY: Any = {"temperature": 0}
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Verdict(pydantic.BaseModel):
    answer: Literal["yes", "no"]


@pytest.fixture
def client(demo: Served) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=demo.url, api_key="-", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
def caller(tools: Served) -> Iterator[Any]:
    with anthropic.Anthropic(
        base_url=tools.url, api_key="-", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_create_and_stream(client: Any) -> None:
    asked: Any = {"model": "demo", "max_tokens": 30, "messages": MESSAGES, "system": "Be brief.", "extra_body": GREEDY}
    message = client.messages.create(**asked)
    assert message.stop_reason == "end_turn" and message.content[0].text
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == message.content[0].text == final.content[0].text
    assert final.usage.output_tokens == message.usage.output_tokens
    counted = client.messages.count_tokens(model="demo", messages=MESSAGES, system="Be brief.")
    cached = message.usage.cache_read_input_tokens
    assert counted.input_tokens == message.usage.input_tokens + cached


def test_what_ends_a_message(client: Any) -> None:
    cut = client.messages.create(model="demo", max_tokens=2, messages=MESSAGES)
    assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == 2
    begun: Any = [*MESSAGES, {"role": "assistant", "content": "One, two"}]
    stopped = client.messages.create(
        model="demo",
        max_tokens=900,
        messages=begun,
        stop_sequences=["e"],
        extra_body={"decoding": {"strategy": "sample", "chain": [{"grammar": {"regex": "[a-d]{3}e[a-d]*"}}]}},
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "e")
    assert len(stopped.content[0].text) == 3


def test_parse(client: Any) -> None:
    parsed = client.messages.parse(
        model="demo", max_tokens=200, messages=MESSAGES, output_format=Verdict, extra_body=GREEDY
    )
    assert isinstance(parsed.parsed_output, Verdict)


def test_tools(caller: Any) -> None:
    asked: Any = {
        "model": "tools",
        "max_tokens": 200,
        "messages": MESSAGES,
        "tools": [WEATHER],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "extra_body": GREEDY,
    }
    message = caller.messages.create(**asked)
    (block,) = message.content
    assert message.stop_reason == "tool_use" and (block.type, block.name) == ("tool_use", "weather")
    assert block.input["city"] in ("Rome", "Oslo")
    with caller.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert [each.input for each in final.content] == [block.input] and final.stop_reason == "tool_use"
    turns: Any = [
        *MESSAGES,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "rain"}]},
    ]
    answer = caller.messages.create(
        model="tools", max_tokens=20, messages=turns, tools=[WEATHER], tool_choice={"type": "none"}
    )
    assert all(each.type == "text" for each in answer.content)


def test_errors(client: Any) -> None:
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(model="demo", max_tokens=5, messages=MESSAGES, extra_body={"temperature": 9})
    assert bad.value.type == "invalid_request_error" and bad.value.body["error"]["param"] == "temperature"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="other", max_tokens=5, messages=MESSAGES)
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        client.messages.create(model="demo", max_tokens=5, messages=MESSAGES, tools=[WEATHER])


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").display_name == "demo"


async def test_keys(narrow: Served) -> None:
    """Sent as `x-api-key`, or as a bearer's token."""
    for given in ({"api_key": "right"}, {"auth_token": "right"}):
        async with anthropic.AsyncAnthropic(base_url=narrow.url, **given, max_retries=0) as client:
            counted = await client.messages.count_tokens(model="demo", messages=MESSAGES)
            assert counted.input_tokens > 5
    async with anthropic.AsyncAnthropic(base_url=narrow.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model="demo", max_tokens=5, messages=MESSAGES)
