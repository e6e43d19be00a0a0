"""`Answers`: the answers to one HTTP request while they are generated: token outputs in, text deltas out.

Knows nothing of JSON. Invariants: at most one delta per engine step and answer; the deltas of an answer, joined, are
its text, streamed or not; however the iteration ends, `abort()` leaves nothing running in the engine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock_engine.client_protocol import EngineClient, RequestStream
from penstock_engine.errors import RequestFailed
from penstock_engine.outputs import Finish, StepOutput, StepTrace, TokenLogprobs, TokenOutput, WatchedStep
from penstock_engine.request import GenerationRequest
from penstock_server.metrics import Metrics
from penstock_server.model import ServedModel
from penstock_server.plan import Plan
from penstock_server.text.answer_text import AnswerText

# Outputs waiting to be merged when a request has several prompts: enough to keep every stream moving.
_MERGED = 64


class ShownToken(NamedTuple):
    """A token with what the request asked to be told of it; `offset` is where its text begins, in characters."""

    token_id: int
    offset: int
    logprobs: TokenLogprobs | None
    processed: TokenLogprobs | None
    trace: tuple[StepTrace, ...] | None


class Delta(NamedTuple):
    """What one step added to one choice. `tokens` is empty unless the request asked to be told of each.

    `score` and `inclusion_probability`: see `TokenOutput`; with the choice's end, if its search gave any. `stopped_by`:
    the stop string that ended it.
    """

    choice: int
    text: str
    tokens: Sequence[ShownToken]
    finish_reason: str | None
    is_first: bool
    score: float | None = None
    inclusion_probability: float | None = None
    stopped_by: str | None = None


class Watched(NamedTuple):
    """One step of one prompt's search, for whoever watches it.

    `tentative`: what would follow the text of `choice` now; it takes the place of the tentative text before, which had
    `num_retracted` characters. None: this strategy has no tentative text.
    """

    prompt: int
    num_steps: int
    step: WatchedStep
    choice: int
    tentative: str | None
    num_retracted: int


class Progress(NamedTuple):
    """What one engine step gave one prompt."""

    deltas: list[Delta]
    watched: Watched | None = None


@dataclass(slots=True)
class Choice:
    """One whole choice of a reply."""

    index: int
    text: str = ""
    tokens: list[ShownToken] = field(default_factory=list)
    finish_reason: str | None = None
    score: float | None = None
    inclusion_probability: float | None = None
    stopped_by: str | None = None


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
        self._num_steps = [0] * len(streams)
        self._num_tentative = [0] * len(streams)
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

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """One for each engine step that settled anything or is watched. Choices that a search did not find never come.

        Raises:
            RequestFailed, EngineUnavailable
        """
        if not self._streams:
            yield Progress([self._empty(i, answer) for i, answer in enumerate(self._choices)])
            return
        async with aclosing(_merged(self._streams)) as outputs:
            async for prompt, output in outputs:
                deltas = self._read(prompt, output)
                watched = None if output.watched is None else self._watched(prompt, output.watched)
                if deltas or watched is not None:
                    yield Progress(deltas, watched)
        if any(answer.is_open for answer in self._choices):
            raise RequestFailed("the engine ended this request before its answers were complete")
        self._metrics.request_done(time.monotonic() - self._began)

    async def collect(self) -> list[Choice]:
        """All choices there are, once they are complete; raises as the iteration does."""
        pieces: list[list[str]] = [[] for _ in self._choices]
        whole = [Choice(i) for i in range(len(self._choices))]
        async for progress in self:
            for delta in progress.deltas:
                choice = whole[delta.choice]
                pieces[delta.choice].append(delta.text)
                choice.tokens.extend(delta.tokens)
                choice.finish_reason = delta.finish_reason
                choice.score, choice.inclusion_probability = delta.score, delta.inclusion_probability
                choice.stopped_by = delta.stopped_by
        for choice, texts in zip(whole, pieces, strict=True):
            choice.text = "".join(texts)
        return [choice for choice in whole if choice.finish_reason is not None]

    def _read(self, prompt: int, output: StepOutput) -> list[Delta]:
        self._num_cached[prompt] = max(self._num_cached[prompt], output.num_cached_tokens)
        now = time.monotonic()
        deltas = []
        tokens, start = output.tokens, 0
        while start < len(tokens):
            # An answer's tokens stand together: one in most steps, many where a search settles what it found.
            end = start + 1
            while end < len(tokens) and tokens[end].choice == tokens[start].choice:
                end += 1
            choice = prompt * self.plan.num_choices + tokens[start].choice
            answer = self._choices[choice]
            # An aborted answer may still have tokens on their way here.
            if answer.is_open:
                delta = self._advance(choice, answer, tokens[start:end], prompt, now)
                if delta is not None:
                    deltas.append(delta)
            start = end
        if output.is_last:
            self._give_up_missing(prompt)
        return deltas

    def _advance(
        self, choice: int, answer: _Answer, tokens: Sequence[TokenOutput], prompt: int, now: float
    ) -> Delta | None:
        texts: list[str] = []
        shown: list[ShownToken] = []
        reason = None
        for token in tokens:
            self._count(answer, now)
            offset = len(answer.lead) + answer.text.num_characters
            if self.plan.tells_tokens:
                shown.append(ShownToken(token.token_id, offset, token.logprobs, token.processed, token.trace))
            # The token that ended an answer by its id is not part of the text, unless asked for.
            if token.finish is not Finish.STOP or self.plan.includes_stop:
                texts.append(answer.text.push_one(token.token_id))
            reason = token.finish.reason
            if reason is not None and not answer.text.is_stopped:
                texts.append(answer.text.finish())
            if answer.text.is_stopped:
                reason = "stop"
                if tokens[-1].finish is Finish.OPEN:
                    self._streams[prompt].abort(token.choice)
                break
        text = "".join(texts)
        if reason is None and not text and not shown:
            return None
        is_first, answer.is_begun = not answer.is_begun, True
        if reason is not None:
            answer.is_open = False
            self._metrics.answer_done(reason, now - answer.first_at, answer.num_tokens)
        if is_first:
            text = answer.lead + text
        if answer.text.is_stopped:  # what is told of the whole answer is not true of what is left of it
            return Delta(choice, text, shown, reason, is_first, stopped_by=answer.text.stopped_by)
        return Delta(choice, text, shown, reason, is_first, token.score, token.inclusion_probability)

    def _count(self, answer: _Answer, now: float) -> None:
        answer.num_tokens += 1
        if answer.num_tokens == 1:
            self._metrics.first_token(now - self._began)
            answer.first_at = now
        else:
            self._metrics.next_token(now - answer.last_at)
        answer.last_at = now

    def _give_up_missing(self, prompt: int) -> None:
        """The engine is done with this prompt: answers that it never began do not exist, if there is another one."""
        first = prompt * self.plan.num_choices
        answers = self._choices[first : first + self.plan.num_choices]
        if any(answer.num_tokens for answer in answers):
            for answer in answers:
                answer.is_open = answer.is_open and answer.num_tokens > 0

    def _watched(self, prompt: int, step: WatchedStep) -> Watched:
        self._num_steps[prompt] += 1
        choice = prompt * self.plan.num_choices
        tentative = None
        if step.tentative is not None:
            best = self._choices[choice]
            tentative = best.text.peek(step.tentative) if best.is_open else ""
        num_retracted, self._num_tentative[prompt] = self._num_tentative[prompt], len(tentative or "")
        return Watched(prompt, self._num_steps[prompt], step, choice, tentative, num_retracted)

    def _empty(self, choice: int, answer: _Answer) -> Delta:
        answer.is_open = False
        self._metrics.answer_done("length", 0.0, 0)
        return Delta(choice, answer.lead, (), "length", True)


def _open_text(plan: Plan, request: GenerationRequest, model: ServedModel) -> AnswerText:
    # After a prompt of nothing but special tokens a text begins, as it does in chat.
    special_ids = model.codec.tokenizer.vocabulary.special_ids
    is_continuation = plan.is_continuation and any(token_id not in special_ids for token_id in request.prompt)
    return model.codec.open_stream(
        plan.stop,
        min_tokens=plan.min_tokens,
        is_continuation=is_continuation,
        includes_stop=plan.includes_stop,
        shown_special=plan.shown_special,
    )


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
