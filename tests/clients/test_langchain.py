"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings`."""

import math
from typing import Any, Literal

import pytest
from real_server import Served

langchain_openai = pytest.importorskip("langchain_openai", reason="the package langchain-openai is not installed")
import pydantic  # noqa: E402

pytestmark = pytest.mark.anyio


class Verdict(pydantic.BaseModel):
    """Whether it is so."""

    answer: Literal["yes", "no"]


class Weather(pydantic.BaseModel):
    """Tells the weather."""

    city: Literal["Rome", "Oslo"]


def model_of(served: Served, name: str = "demo", **fields: Any) -> Any:
    return langchain_openai.ChatOpenAI(
        model=name, base_url=f"{served.url}/v1", api_key="-", max_retries=0, temperature=0, **fields
    )


def test_invoke_stream_and_batch(demo: Served) -> None:
    model = model_of(demo, stream_usage=True)
    said = model.invoke([("system", "Be brief."), ("human", "What is 3 plus 4?")])
    assert said.content and said.response_metadata["finish_reason"] == "stop"
    chunks = list(model.stream([("system", "Be brief."), ("human", "What is 3 plus 4?")]))
    assert "".join(chunk.content for chunk in chunks) == said.content
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage["total_tokens"] == said.usage_metadata["total_tokens"]
    many = model.batch(["Who are you?", "What is 3 plus 4?"])
    assert [one.content for one in many] == [model.invoke(q).content for q in ("Who are you?", "What is 3 plus 4?")]


async def test_asynchronously(demo: Served) -> None:
    model = model_of(demo)
    said = await model.ainvoke("Who are you?")
    assert "".join([chunk.content async for chunk in model.astream("Who are you?")]) == said.content


@pytest.mark.parametrize("is_responses", [False, True])
def test_structured_output(demo: Served, is_responses: bool) -> None:
    model = model_of(demo, use_responses_api=is_responses).with_structured_output(Verdict, method="json_schema")
    assert isinstance(model.invoke("Is a mouse as big as a house?"), Verdict)


def test_tools(tools: Served) -> None:
    # Strict forbids further arguments, of which a model that knows no calls would find ever more.
    model = model_of(tools, "tools").bind_tools([Weather], tool_choice="any", strict=True)
    said = model.invoke("Weather in Rome?")
    assert said.tool_calls and not said.invalid_tool_calls
    assert all(call["name"] == "Weather" and Weather.model_validate(call["args"]) for call in said.tool_calls)
    whole = None
    for chunk in model.stream("Weather in Rome?"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None and [c["args"] for c in whole.tool_calls] == [c["args"] for c in said.tool_calls]
    by_calling = model_of(tools, "tools").with_structured_output(Verdict, method="function_calling", strict=True)
    assert isinstance(by_calling.invoke("Is a mouse as big as a house?"), Verdict)


async def test_embeddings(demo: Served) -> None:
    # Or it sends the tokens of a model of OpenAI's, which it fetches the tokenizer of.
    model = langchain_openai.OpenAIEmbeddings(
        model="demo", base_url=f"{demo.url}/v1", api_key="-", max_retries=0, check_embedding_ctx_length=False
    )
    texts = ["A mouse lived in a cottage.", "A mouse lived in a house.", "3 + 4 = 7"]
    vectors = model.embed_documents(texts)
    assert all(math.hypot(*vector) == pytest.approx(1) for vector in vectors)
    assert math.dist(vectors[0], vectors[1]) < math.dist(vectors[0], vectors[2])
    assert await model.aembed_query(texts[0]) == pytest.approx(vectors[0], abs=1e-2)  # another batch, in bfloat16
