"""The official client against a server on loopback: nothing here knows our layouts but through its types."""

import asyncio
from typing import Any

import openai
import pytest
from server_api import MODEL, Api, MakeApi, listening

pytestmark = pytest.mark.anyio


async def test_async_chat(api: Api) -> None:
    api.say("Hi 🙂 there")
    async with listening(api) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        whole = await client.chat.completions.create(
            model=MODEL, messages=messages, logprobs=True, top_logprobs=2, seed=4
        )
        choice = whole.choices[0]
        assert (choice.message.content, choice.finish_reason, choice.message.role) == (
            "Hi 🙂 there",
            "stop",
            "assistant",
        )
        assert choice.logprobs is not None and choice.logprobs.content is not None and whole.usage is not None
        assert len(choice.logprobs.content) == whole.usage.completion_tokens
        assert whole.model_extra == {"seed": 4}
        stream = await client.chat.completions.create(
            model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hi 🙂 there"
        assert chunks[-1].usage is not None and chunks[-1].usage.prompt_tokens_details is not None
        assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 4


async def test_async_errors(make_api: MakeApi) -> None:
    api = make_api(api_key=("right",))
    async with (
        listening(api) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
    ):
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        client.api_key = "right"
        assert [model.id async for model in client.models.list()] == [MODEL, "alias"]
        assert (await client.models.retrieve(MODEL)).owned_by == "penstock"
        with pytest.raises(openai.NotFoundError) as missing:
            await client.completions.create(model="other", prompt="x")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as bad:
            await client.completions.create(model=MODEL, prompt="x", temperature=9)
        assert bad.value.param == "temperature"


async def test_async_fault_in_a_stream(api: Api) -> None:
    def failing(request: object, choice: int, position: int) -> int:
        api.engine.fault = RuntimeError("x") if position == 1 else None
        return 65

    api.engine.next_token = failing
    async with listening(api) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        stream = await client.completions.create(model=MODEL, prompt="x", stream=True)
        with pytest.raises(openai.APIError, match="its log says why"):
            async for _ in stream:
                pass


async def test_async_cancel(api: Api) -> None:
    """What the client's users do to stop a generation: leave the stream."""
    async with listening(api) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        api.engine.hold()
        api.engine.release(1)
        stream = await client.completions.create(model=MODEL, prompt="x", stream=True, max_tokens=200)
        async for _ in stream:
            break
        await stream.close()
        await asyncio.wait_for(api.engine.streams[0].end.wait(), 10)


async def test_sync(api: Api) -> None:
    api.say(" water")

    def use(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
            whole = client.completions.create(model=MODEL, prompt=["a", "b"], n=2, logprobs=1, extra_body={"top_k": 4})
            assert [choice.text for choice in whole.choices] == [" water"] * 4
            assert whole.choices[0].logprobs is not None and whole.choices[0].logprobs.text_offset == [0, 6]
            stream = client.completions.create(model=MODEL, prompt="a", stream=True)
            assert "".join(chunk.choices[0].text for chunk in stream) == " water"

    async with listening(api) as url:
        await asyncio.to_thread(use, url)
