"""Prompts that are read and not answered: asked together, collected, and ended when nobody waits for them any more.

What /v1/embeddings and /v1/score have in common. Knows nothing of text or JSON. Invariant: however `read_prompts` ends,
nothing of it is left in the engine.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from penstock_decoding.params import read_decoding
from penstock_engine.client_protocol import EngineClient, RequestStream
from penstock_engine.errors import QueueFull, RequestFailed, RequestRefused
from penstock_engine.outputs import TokenLogprobs
from penstock_engine.request import GenerationRequest, PromptReading, StopConditions

# Nothing is drawn for a request without tokens to generate; the cheapest way to draw is the one that is checked least.
_NO_DRAWS = read_decoding({"temperature": 0, "seed": 0}, vocab_size=1)
_NO_TOKENS = StopConditions(max_tokens=0)


class AskedPrompt(NamedTuple):
    """A prompt's token ids, and where in the body it stands: an error names that. `first`: see `PromptReading`."""

    token_ids: Sequence[int]
    param: str
    first: int = 1


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """What the engine told of one prompt.

    logprobs: of its tokens from the first one asked for; empty unless asked for.
    embedding: float32 [hidden_size], not normalised; None unless asked for.
    """

    logprobs: tuple[TokenLogprobs, ...]
    embedding: bytes | None


def reading_requests(
    request_id: str, prompts: Sequence[AskedPrompt], reading: PromptReading, *, priority: int = 0, cache_salt: str = ""
) -> list[GenerationRequest]:
    """One request per prompt, none of which generates anything."""
    return [
        GenerationRequest(
            f"{request_id}-{i}",
            tuple(prompt.token_ids),
            _NO_DRAWS,
            _NO_TOKENS,
            priority,
            cache_salt,
            reading=replace(reading, first=prompt.first),
        )
        for i, prompt in enumerate(prompts)
    ]


async def read_prompts(
    requests: Sequence[GenerationRequest], params: Sequence[str], client: EngineClient
) -> list[ReadPrompt]:
    """What the engine tells of each. `params`: where in the body each prompt stands.

    Many are in the engine at once, but no more than keep it busy, so that one long list neither fills the queue nor is
    refused for being longer than it. A full queue is waited for as long as requests of this list are ahead in it.

    Raises:
        RequestRefused: names the prompt. QueueFull: it is full of others'. RequestFailed, EngineUnavailable
    """
    read: dict[int, ReadPrompt] = {}
    waiting = deque(range(len(requests)))
    num_readers = min(len(requests), _most_at_once(client))

    async def reader() -> None:
        nonlocal num_readers
        while waiting:
            index, num_read = waiting.popleft(), len(read)
            try:
                stream = await client.submit(requests[index])
            except RequestRefused as refused:
                raise RequestRefused(params[index], refused.message) from None
            except QueueFull:
                waiting.appendleft(index)
                if num_readers > 1:
                    break  # the others go on with it: they have requests in the engine, whose ends make room
                if len(read) == num_read:
                    raise
            else:
                read[index] = await _collected(stream)
        num_readers -= 1

    readers = [asyncio.create_task(reader()) for _ in range(num_readers)]
    try:
        await asyncio.gather(*readers)
    finally:
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return [read[index] for index in range(len(requests))]


def _most_at_once(client: EngineClient) -> int:
    # As many again as run, so that a step's successors are there before it has ended; half of the queue is for others.
    return max(min(2 * client.info.max_rows, client.info.max_queue // 2), 1)


async def _collected(stream: RequestStream) -> ReadPrompt:
    logprobs: list[TokenLogprobs] = []
    embedding, is_over = None, False
    try:
        async for output in stream:
            logprobs.extend(output.prompt_logprobs)
            embedding = embedding if output.embedding is None else output.embedding
            is_over = output.is_last
        if not is_over:
            raise RequestFailed("the engine ended this request before its prompt was read")
    finally:
        if not is_over:
            stream.abort()
    return ReadPrompt(tuple(logprobs), embedding)
