"""`Answers`: the answers to one HTTP request while they are generated: token outputs in, text deltas out.

Knows nothing of JSON. Invariants: at most one delta per engine step and answer; the deltas of an answer, joined, are
its text, streamed or not; however it ends, `abort()` leaves nothing running in the engine.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from penstock_engine.client_protocol import Delivered, EngineClient, RequestStream
from penstock_engine.errors import RequestFailed
from penstock_engine.outputs import Finish, StepOutput, StepTrace, TokenLogprobs, TokenOutput, WatchedStep
from penstock_engine.request import GenerationRequest
from penstock_server.metrics import Metrics
from penstock_server.model import ServedModel
from penstock_server.plan import Plan
from penstock_server.text.answer_text import AnswerText


class ShownToken(NamedTuple):
    """A token with what the request asked to be told of it; `offset` is where its text begins, in characters."""

    token_id: int
    offset: int
    logprobs: TokenLogprobs | None
    processed: TokenLogprobs | None
    trace: tuple[StepTrace, ...] | None


class Delta(NamedTuple):
    """What one step added to one choice. `tokens` is empty unless the request asked to be told of each.

    `prompt_logprobs`: of the prompt's tokens from its second one on, with the choice's first delta, if they are read.
    `score` and `inclusion_probability`: see `TokenOutput`; with the choice's end, if its search gave any. `stopped_by`:
    the stop string, or the stop token of the request's own, that ended it.
    """

    choice: int
    text: str
    tokens: Sequence[ShownToken]
    finish_reason: str | None
    is_first: bool
    score: float | None = None
    inclusion_probability: float | None = None
    stopped_by: str | int | None = None
    prompt_logprobs: Sequence[TokenLogprobs] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is more text and nothing else, as nearly every one is: neither the first nor the last."""
        return not self.is_first and self.finish_reason is None and not self.tokens


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
    stopped_by: str | int | None = None
    prompt_logprobs: Sequence[TokenLogprobs] = ()


class _Answer:
    """One choice's state. `lead`: what goes before its text."""

    __slots__ = ("first_at", "is_begun", "is_open", "last_at", "lead", "num_tokens", "text")

    def __init__(self, text: AnswerText, lead: str) -> None:
        self.text = text
        self.lead = lead
        self.num_tokens = 0
        self.is_begun = False
        self.is_open = True
        self.first_at = self.last_at = 0.0


class Answers:
    """All choices of one plan. `deliver_to` or `collect`, once."""

    def __init__(self, plan: Plan, model: ServedModel, streams: Sequence[RequestStream], metrics: Metrics) -> None:
        self.plan = plan
        self._streams = streams
        self._metrics = metrics
        self._began = time.monotonic()
        self._is_over = False
        self._is_plain = not plan.tells_tokens and not plan.stop
        self._num_streams_open = len(streams)
        self._num_cached = [0] * len(streams)
        self._num_steps = [0] * len(streams)
        self._num_tentative = [0] * len(streams)
        self._prompt_logprobs: list[list[TokenLogprobs]] = [[] for _ in plan.requests]
        self._choices = [
            _Answer(_open_text(plan, request, model), echo.text)
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
        asked = [asyncio.ensure_future(client.submit(request)) for request in plan.requests if plan.asks_engine]
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
        self._is_over = True
        if is_open:
            for stream in self._streams:
                stream.abort()
            for answer in self._choices:
                answer.is_open = False
        return is_open

    def deliver_to(self, take: Callable[[Progress], None], end: Callable[[Exception | None], None]) -> None:
        """Call `take` for each engine step that settled anything or is watched, as soon as its output is there.

        Then `end`, once: with None when all answers that there are have come (a search may find fewer than asked for),
        or with why they have not: RequestFailed, EngineUnavailable, or what `take` raised. Nothing is called after
        `abort`.
        """
        self._take, self._end = take, end
        if self._streams:
            for prompt, stream in enumerate(self._streams):
                stream.deliver_to(functools.partial(self._come, prompt))
        else:
            take(Progress([self._empty(choice) for choice in range(len(self._choices))]))
            self._finish(None)

    async def collect(self) -> list[Choice]:
        """All choices there are, once they are complete.

        Raises:
            RequestFailed, EngineUnavailable
        """
        pieces: list[list[str]] = [[] for _ in self._choices]
        whole = [Choice(i) for i in range(len(self._choices))]
        complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(progress: Progress) -> None:
            for delta in progress.deltas:
                choice = whole[delta.choice]
                pieces[delta.choice].append(delta.text)
                choice.tokens.extend(delta.tokens)
                choice.finish_reason = delta.finish_reason
                choice.score, choice.inclusion_probability = delta.score, delta.inclusion_probability
                choice.stopped_by = delta.stopped_by
                choice.prompt_logprobs = delta.prompt_logprobs or choice.prompt_logprobs

        def end(fault: Exception | None) -> None:
            if complete.done():
                return  # nobody waits any more
            if fault is None:
                complete.set_result(None)
            else:
                complete.set_exception(fault)

        self.deliver_to(take, end)
        await complete
        for choice, texts in zip(whole, pieces, strict=True):
            choice.text = "".join(texts)
        return [choice for choice in whole if choice.finish_reason is not None]

    def _come(self, prompt: int, item: Delivered) -> None:
        """What one of the streams delivers."""
        if self._is_over:
            return
        if not isinstance(item, StepOutput):
            self._end_stream(item)
            return
        try:
            deltas = self._read(prompt, item)
            watched = None if item.watched is None else self._watched(prompt, item.watched)
            if deltas or watched is not None:
                self._take(Progress(deltas, watched))
        except Exception as error:
            self._finish(error)
            return
        if item.is_last:
            self._end_stream(None)

    def _end_stream(self, fault: Exception | None) -> None:
        self._num_streams_open -= 1
        if fault is not None:
            self._finish(fault)
        elif not self._num_streams_open:
            is_complete = not any(answer.is_open for answer in self._choices)
            broken = RequestFailed("the engine ended this request before its answers were complete")
            self._finish(None if is_complete else broken)

    def _finish(self, fault: Exception | None) -> None:
        self._is_over = True
        if fault is None:
            self._metrics.request_done(time.monotonic() - self._began)
        self._end(fault)

    def _read(self, prompt: int, output: StepOutput) -> list[Delta]:
        self._num_cached[prompt] = max(self._num_cached[prompt], output.num_cached_tokens)
        if output.prompt_logprobs:
            self._prompt_logprobs[prompt].extend(output.prompt_logprobs)
        now = time.monotonic()
        tokens = output.tokens
        if self._is_plain and len(tokens) == 1 and tokens[0].finish is Finish.OPEN and not output.is_last:
            choice = prompt * self.plan.num_choices + tokens[0].choice
            answer = self._choices[choice]
            if answer.is_begun and answer.is_open:
                return self._go_on(choice, answer, tokens[0].token_id, now)
        deltas, start = [], 0
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
        if output.is_last and not self.plan.max_tokens:
            return [self._empty(choice) for choice in self._of_prompt(prompt)]
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
            if self.plan.tells_tokens:
                offset = len(answer.lead) + answer.text.offset_of(token.token_id)
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
        read = self._prompt_logprobs[prompt] if is_first else ()
        if reason is not None:
            answer.is_open = False
            self._metrics.answer_done(reason, now - answer.first_at, answer.num_tokens)
        if is_first:
            text = answer.lead + text
        if answer.text.is_stopped:  # what is told of the whole answer is not true of what is left of it
            return Delta(choice, text, shown, reason, is_first, None, None, answer.text.stopped_by, read)
        is_stop = token.finish is Finish.STOP and token.token_id in self.plan.stop_token_ids
        stopped_by = token.token_id if is_stop else None
        return Delta(choice, text, shown, reason, is_first, token.score, token.inclusion_probability, stopped_by, read)

    def _go_on(self, choice: int, answer: _Answer, token_id: int, now: float) -> list[Delta]:
        """What `_advance` comes to for nearly every token: its text, with nothing beside it and no end."""
        self._count(answer, now)
        text = answer.text.push_one(token_id)
        return [Delta(choice, text, (), None, False)] if text else []

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
        answers = [self._choices[choice] for choice in self._of_prompt(prompt)]
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

    def _of_prompt(self, prompt: int) -> range:
        return range(prompt * self.plan.num_choices, (prompt + 1) * self.plan.num_choices)

    def _empty(self, choice: int) -> Delta:
        """An answer of no tokens."""
        answer = self._choices[choice]
        answer.is_open = False
        self._metrics.answer_done("length", 0.0, 0)
        read = self._prompt_logprobs[choice // self.plan.num_choices]
        return Delta(choice, answer.lead, (), "length", True, prompt_logprobs=read)


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
