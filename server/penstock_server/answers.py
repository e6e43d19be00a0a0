"""`Answers`: the answers to one HTTP request while they are generated: token outputs in, text deltas out.

Knows nothing of JSON. Invariants: one list of deltas per engine step; the deltas of an answer, joined, are its text,
streamed or not; however the iteration ends, `abort()` leaves nothing running in the engine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock_engine.client_protocol import EngineClient, RequestStream
from penstock_engine.errors import RequestFailed
from penstock_engine.outputs import Finish, StepOutput, TokenLogprobs, TokenOutput
from penstock_engine.request import GenerationRequest
from penstock_server.metrics import Metrics
from penstock_server.model import ServedModel
from penstock_server.plan import Plan
from penstock_server.text.answer_text import AnswerText

# Outputs waiting to be merged when a request has several prompts: enough to keep every stream moving.
_MERGED = 64


class ShownToken(NamedTuple):
    """A token with its log-probabilities; `offset` is where its text begins in the answer, in characters."""

    token_id: int
    logprobs: TokenLogprobs
    offset: int


class Delta(NamedTuple):
    """What one step added to one choice. `tokens` is empty unless log-probabilities were asked for."""

    choice: int
    text: str
    tokens: tuple[ShownToken, ...]
    finish_reason: str | None
    is_first: bool


@dataclass(slots=True)
class Choice:
    """One whole choice of a reply."""

    text: str = ""
    tokens: list[ShownToken] = field(default_factory=list)
    finish_reason: str | None = None


class _Answer:
    """One choice's state."""

    __slots__ = ("first_at", "is_begun", "is_open", "last_at", "lead", "num_tokens", "text")

    def __init__(self, text: AnswerText, lead: str) -> None:
        self.text = text
        self.lead = lead
        self.num_tokens = 0
        self.is_begun = False
        self.is_open = True
        self.first_at = self.last_at = 0.0


class Answers:
    """All choices of one plan. Iterate it once."""

    def __init__(self, plan: Plan, model: ServedModel, streams: Sequence[RequestStream], metrics: Metrics) -> None:
        self.plan = plan
        self._streams = streams
        self._metrics = metrics
        self._began = time.monotonic()
        self._num_cached = [0] * len(streams)
        self._choices = [
            _Answer(_open_text(plan, request, model), echo)
            for request, echo in zip(plan.requests, plan.echoes, strict=True)
            for _ in range(plan.num_choices)
        ]

    @classmethod
    async def submit(cls, plan: Plan, client: EngineClient, model: ServedModel, metrics: Metrics) -> "Answers":
        """Hand the plan to the engine: all its prompts or none.

        Raises:
            RequestRefused, QueueFull, EngineUnavailable
        """
        # Together, so that a hundred prompts do not wait for a hundred engine steps; the engine sees them in order.
        asked = [asyncio.ensure_future(client.submit(request)) for request in plan.requests if plan.max_tokens]
        try:
            streams = await asyncio.gather(*asked)
        except BaseException:
            for one in asked:
                one.cancel()
            for taken in await asyncio.gather(*asked, return_exceptions=True):
                if not isinstance(taken, BaseException):
                    taken.abort()
            raise
        return cls(plan, model, streams, metrics)

    @property
    def num_generated_tokens(self) -> int:
        return sum(answer.num_tokens for answer in self._choices)

    @property
    def num_cached_tokens(self) -> int:
        return sum(self._num_cached)

    def abort(self) -> bool:
        """Stop whatever is still generated; False when nothing was, as on a second call."""
        is_open = any(answer.is_open for answer in self._choices)
        if is_open:
            for stream in self._streams:
                stream.abort()
            for answer in self._choices:
                answer.is_open = False
        return is_open

    async def __aiter__(self) -> AsyncIterator[list[Delta]]:
        """One non-empty list per engine step that settled anything.

        Raises:
            RequestFailed, EngineUnavailable
        """
        if not self._streams:
            yield [self._empty(i, answer) for i, answer in enumerate(self._choices)]
            return
        async with aclosing(_merged(self._streams)) as outputs:
            async for prompt, output in outputs:
                deltas = self._read(prompt, output)
                if deltas:
                    yield deltas
        if any(answer.is_open for answer in self._choices):
            raise RequestFailed("the engine ended this request before its answers were complete")
        self._metrics.request_done(time.monotonic() - self._began)

    async def collect(self) -> list[Choice]:
        """All choices, once they are complete; raises as the iteration does."""
        pieces: list[list[str]] = [[] for _ in self._choices]
        whole = [Choice() for _ in self._choices]
        async for deltas in self:
            for delta in deltas:
                pieces[delta.choice].append(delta.text)
                whole[delta.choice].tokens.extend(delta.tokens)
                whole[delta.choice].finish_reason = delta.finish_reason
        for choice, texts in zip(whole, pieces, strict=True):
            choice.text = "".join(texts)
        return whole

    def _read(self, prompt: int, output: StepOutput) -> list[Delta]:
        self._num_cached[prompt] = max(self._num_cached[prompt], output.num_cached_tokens)
        now = time.monotonic()
        deltas = []
        for token in output.tokens:
            choice = prompt * self.plan.num_choices + token.choice
            answer = self._choices[choice]
            # An aborted answer may still have a token on its way here.
            if answer.is_open:
                delta = self._advance(choice, answer, token, prompt, now)
                if delta is not None:
                    deltas.append(delta)
        return deltas

    def _advance(self, choice: int, answer: _Answer, token: TokenOutput, prompt: int, now: float) -> Delta | None:
        answer.num_tokens += 1
        if answer.num_tokens == 1:
            self._metrics.first_token(now - self._began)
            answer.first_at = now
        else:
            self._metrics.next_token(now - answer.last_at)
        answer.last_at = now
        offset = answer.text.num_characters
        # The token that ended an answer by its id is not part of the text.
        text = "" if token.finish is Finish.STOP else answer.text.push_one(token.token_id)
        reason = token.finish.reason
        if answer.text.is_stopped:
            reason = "stop"
            if token.finish is Finish.OPEN:
                self._streams[prompt].abort(token.choice)
        elif token.finish is not Finish.OPEN:
            text += answer.text.finish()
            if answer.text.is_stopped:
                reason = "stop"
        tokens = (ShownToken(token.token_id, token.logprobs, len(answer.lead) + offset),) if token.logprobs else ()
        if reason is None and not text and not tokens:
            return None
        is_first, answer.is_begun = not answer.is_begun, True
        if reason is not None:
            answer.is_open = False
            self._metrics.answer_done(reason, now - answer.first_at, answer.num_tokens)
        return Delta(choice, answer.lead + text if is_first else text, tokens, reason, is_first)

    def _empty(self, choice: int, answer: _Answer) -> Delta:
        answer.is_open = False
        self._metrics.answer_done("length", 0.0, 0)
        return Delta(choice, answer.lead, (), "length", True)


def _open_text(plan: Plan, request: GenerationRequest, model: ServedModel) -> AnswerText:
    # After a prompt of nothing but special tokens a text begins, as it does in chat.
    special_ids = model.codec.tokenizer.vocabulary.special_ids
    is_continuation = plan.is_continuation and any(token_id not in special_ids for token_id in request.prompt)
    return model.codec.open_stream(plan.stop, min_tokens=plan.min_tokens, is_continuation=is_continuation)


async def _merged(streams: Sequence[RequestStream]) -> AsyncGenerator[tuple[int, StepOutput]]:
    """The outputs of all streams as they come, each with its stream's index."""
    if len(streams) == 1:
        async for output in streams[0]:
            yield 0, output
        return
    ready: asyncio.Queue[tuple[int, StepOutput | Exception | None]] = asyncio.Queue(_MERGED)

    async def pump(index: int, stream: RequestStream) -> None:
        try:
            async for output in stream:
                await ready.put((index, output))
            await ready.put((index, None))
        except Exception as error:
            await ready.put((index, error))

    pumps = [asyncio.create_task(pump(i, stream)) for i, stream in enumerate(streams)]
    try:
        num_open = len(streams)
        while num_open:
            index, item = await ready.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield index, item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
