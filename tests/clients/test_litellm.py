"""litellm, as OpenAI's client and as Anthropic's."""

import math
import os
from typing import Any

import pytest
from real_server import Served

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or importing it asks the internet for a list of prices
litellm = pytest.importorskip("litellm", reason="the package litellm is not installed")

# It warns of its own types and sockets.
pytestmark = pytest.mark.filterwarnings("ignore")

MESSAGES: Any = [{"role": "user", "content": "What is 3 plus 4?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def fields(served: Served, provider: str, name: str = "demo") -> dict[str, Any]:
    root = served.url if provider == "anthropic" else f"{served.url}/v1"
    return {"model": f"{provider}/{name}", "api_base": root, "api_key": "-", "temperature": 0, "max_tokens": 200}


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
def test_completion_and_stream(demo: Served, provider: str) -> None:
    asked = fields(demo, provider)
    reply = litellm.completion(**asked, messages=MESSAGES)
    said = reply.choices[0].message.content
    assert said and reply.choices[0].finish_reason == "stop" and reply.usage.completion_tokens > 1
    chunks = litellm.completion(**asked, messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said


def test_text_completion(demo: Served) -> None:
    asked = fields(demo, "text-completion-openai")
    reply = litellm.text_completion(**asked, prompt="Once upon a time", stop=["\n"])
    assert reply.choices[0].text and "\n" not in reply.choices[0].text


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_tools(tools: Served, provider: str) -> None:
    reply = litellm.completion(
        **fields(tools, provider, "tools"), messages=MESSAGES, tools=[WEATHER], tool_choice="required"
    )
    calls = reply.choices[0].message.tool_calls
    assert calls and all(call.function.name == "weather" for call in calls)
    assert reply.choices[0].finish_reason == "tool_calls"


def test_responses(demo: Served) -> None:
    asked: Any = {"model": "openai/demo", "api_base": f"{demo.url}/v1", "api_key": "-", "temperature": 0}
    reply = litellm.responses(**asked, input="What is 3 plus 4?", max_output_tokens=50)
    said = reply.output[0].content[0].text
    assert reply.status == "completed" and said and reply.usage.output_tokens > 1
    events = list(litellm.responses(**asked, input="What is 3 plus 4?", max_output_tokens=50, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_embeddings(demo: Served, provider: str) -> None:
    texts = ["A mouse lived in a cottage.", "3 + 4 = 7"]
    asked: Any = {"model": f"{provider}/demo", "api_base": f"{demo.url}/v1", "api_key": "-"}
    reply = litellm.embedding(**asked, input=texts)
    vectors = [one["embedding"] for one in reply.data]
    assert all(math.hypot(*vector) == pytest.approx(1) for vector in vectors) and vectors[0] != vectors[1]
    assert reply.usage.prompt_tokens > 0
    (short,) = litellm.embedding(**asked, input=texts[:1], dimensions=8, allowed_openai_params=["dimensions"]).data
    assert len(short["embedding"]) == 8


def test_errors(demo: Served) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**fields(demo, "openai", "other"), messages=MESSAGES)
    with pytest.raises(litellm.BadRequestError, match="top_k"):
        litellm.completion(**fields(demo, "openai"), messages=MESSAGES, extra_body={"top_k": "many"})
