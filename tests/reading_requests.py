"""Requests that have their prompts read on a scripted runner, and all that they are told."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scripted_engine import LIMITS, make_engine

from penstock_engine.engine import Engine, Failure
from penstock_engine.outputs import StepOutput, TokenLogprobs, TokenOutput
from penstock_engine.request import GenerationRequest, Pooling, PromptReading


@dataclass(slots=True)
class Heard:
    """What one request was told in all its steps."""

    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    embeddings: list[bytes] = field(default_factory=list)
    answers: dict[int, list[TokenOutput]] = field(default_factory=dict)
    failure: str | None = None
    is_over: bool = False

    def take(self, output: StepOutput | Failure, request: GenerationRequest) -> None:
        assert not self.is_over, "something follows the last output"
        if isinstance(output, Failure):
            self.failure, self.is_over = output.message, True
            return
        self.prompt_logprobs += output.prompt_logprobs
        if output.embedding is not None:
            self.embeddings.append(output.embedding)
        for token in output.tokens:
            self.answers.setdefault(token.choice, []).append(token)
        if self.answers and request.reading is not None:
            assert self.is_complete(request), "tokens came before all of the prompt was told"
        self.is_over = output.is_last

    def is_complete(self, request: GenerationRequest) -> bool:
        """Whether all that was asked about the prompt has been told, once."""
        assert request.reading is not None
        asks = request.reading.num_logprobs is not None
        num_told = (
            len(request.prompt) - request.reading.first if asks else 0,
            int(request.reading.pooling is not None),
        )
        return (len(self.prompt_logprobs), len(self.embeddings)) == num_told


def having_read(
    request: GenerationRequest,
    num_logprobs: int | None = None,
    pooling: Pooling | None = None,
    *,
    max_tokens: int | None = None,
    first: int = 1,
) -> GenerationRequest:
    """The request with something asked about its prompt; `max_tokens`: its own if None."""
    stop = request.stop if max_tokens is None else replace(request.stop, max_tokens=max_tokens)
    return replace(request, reading=PromptReading(num_logprobs, pooling, first), stop=stop)


def hear(engine: Engine, requests: Iterable[GenerationRequest]) -> dict[str, Heard]:
    """All requests at once, to their ends; the engine's books are checked after each step."""
    by_id = {request.id: request for request in requests}
    heard = {name: Heard() for name in by_id}
    for request in by_id.values():
        engine.add(request)
    while engine.has_work:
        hear_step(engine, by_id, heard)
    assert all(each.is_over for each in heard.values())
    return heard


def hear_step(engine: Engine, by_id: dict[str, GenerationRequest], heard: dict[str, Heard]) -> None:
    """One step."""
    for name, output in engine.step():
        heard[name].take(output, by_id[name])
    engine.check()


def hear_alone(request: GenerationRequest) -> Heard:
    """By itself, in an engine with room and budget for everything at once."""
    roomy = replace(LIMITS, num_blocks=1024, max_batch_tokens=1024, max_rows=64)
    return hear(make_engine(roomy), [request])[request.id]
