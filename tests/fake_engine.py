"""`FakeEngine`: an `EngineClient` whose tokens a test decides, and whose steps it can hold back. Runs no model."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
from delivery import deliver

from penstock_engine.client_protocol import Delivered
from penstock_engine.config import EngineInfo, EngineStats
from penstock_engine.errors import EngineUnavailable
from penstock_engine.outputs import Finish, StepOutput, TokenLogprobs, TokenOutput
from penstock_engine.request import GenerationRequest

# (request, choice, position) -> token id
NextToken = Callable[[GenerationRequest, int, int], int]


def fake_info(vocab_size: int, eos_token_ids: tuple[int, ...] = (), max_model_len: int = 256) -> EngineInfo:
    """What an engine of a tiny model would report."""
    return EngineInfo(
        model="fake",
        folder="fake",
        architecture="FakeForCausalLM",
        num_parameters=1_234_567,
        vocab_size=vocab_size,
        hidden_size=8,
        eos_token_ids=eos_token_ids,
        dtype="float32",
        dtype_reason="as asked",
        device="cpu",
        kernels="reference",
        weights="float32",
        kv_cache_dtype="float32",
        max_model_len=max_model_len,
        block_size=16,
        num_blocks=64,
        kv_cache_bytes=2**20,
        max_batch_tokens=128,
        max_rows=8,
        max_queue=16,
        overlap=False,
        cuda_graphs=False,
        threads=1,
        load_seconds=0.1,
    )


def cycling(tokens: Sequence[int]) -> NextToken:
    """Every answer is these tokens, again and again."""
    return lambda request, choice, position: tokens[position % len(tokens)]


def embedding_of(prompt: Sequence[int], pooling: str, size: int) -> bytes:
    """What the fake says of a prompt: float32 [size] that tell the prompt, its order and the pooling."""
    seed = [*prompt] if pooling == "last" else [*prompt, 2**20]
    return np.random.default_rng(seed).normal(size=size).astype(np.float32).tobytes()


class FakeEngine:
    """Each step gives every open answer of a request one token.

    `hold()` makes each further step of each request wait for one `release()`. `refusal`, when set, is what `submit`
    raises; `fault`, when set, is what a stream raises before its next step. `outputs`, when set, is what every stream
    gives, whatever was asked.

    What a request's prompt is read for comes with its first step: token i of the prompt has the log-probability
    -0.5 - i and the rank i + 1, and the likeliest ones are tokens 0, 1, ...; its embedding is `embedding_of` it.
    """

    def __init__(self, info: EngineInfo, next_token: NextToken) -> None:
        self.info = info
        self.stats = EngineStats(num_blocks=info.num_blocks, num_running=2, num_blocks_in_use=3, num_prompt_tokens=7)
        self.next_token = next_token
        self.failure: str | None = None
        self.refusal: Exception | None = None
        self.fault: Exception | None = None
        self.outputs: Sequence[StepOutput] | None = None
        self.requests: list[GenerationRequest] = []
        self.streams: list[FakeStream] = []
        self.is_closed = False
        self._permits: asyncio.Semaphore | None = None

    def hold(self) -> None:
        self._permits = asyncio.Semaphore(0)

    def release(self, num_steps: int = 1) -> None:
        assert self._permits is not None, "hold() comes first"
        for _ in range(num_steps):
            self._permits.release()

    async def submit(self, request: GenerationRequest) -> "FakeStream":
        if self.refusal is not None:
            raise self.refusal
        if self.is_closed:
            raise EngineUnavailable("the engine is closed")
        self.requests.append(request)
        self.streams.append(FakeStream(self, request))
        return self.streams[-1]

    async def close(self, drain_timeout: float = 0.0) -> None:
        self.is_closed = True
        for stream in self.streams:
            stream.end.set()

    async def permit(self) -> None:
        if self._permits is not None:
            await self._permits.acquire()


class FakeStream:
    """One request's outputs. `end` is set when it is over, aborted or closed."""

    def __init__(self, engine: FakeEngine, request: GenerationRequest) -> None:
        self._engine = engine
        self._request = request
        self._open = dict.fromkeys(range(request.decoding.strategy.params.n))
        self.aborted: list[int | None] = []
        self.end = asyncio.Event()
        self.is_over = False

    def abort(self, choice: int | None = None) -> None:
        if self.is_over:
            return
        self.aborted.append(choice)
        for index in [choice] if choice is not None else list(self._open):
            self._open.pop(index, None)
        if not self._open:
            self.end.set()

    def deliver_to(self, take: Callable[[Delivered], None]) -> None:
        self._delivering = deliver(aiter(self), take)

    async def __aiter__(self) -> AsyncIterator[StepOutput]:
        if self._engine.outputs is not None:
            for output in self._engine.outputs:
                yield output
            return
        position = 0
        if self._request.stop.max_tokens == 0 and await self._may_step():
            self._open.clear()
            self.is_over = True
            yield StepOutput((), True, 0, None, *self._reading(0))
        while await self._may_step():
            tokens = tuple(self._token(choice, position) for choice in self._open)
            for token in tokens:
                if token.finish is not Finish.OPEN:
                    del self._open[token.choice]
            self.is_over = not self._open
            yield StepOutput(tokens, self.is_over, 4 if position == 0 else 0, None, *self._reading(position))
            position += 1
        self.is_over = True

    async def _may_step(self) -> bool:
        """Whether there is a next step; waits for its permit, unless the stream ends first."""
        if not self._open:
            return False
        permit = asyncio.ensure_future(self._engine.permit())
        end = asyncio.ensure_future(self.end.wait())
        try:
            await asyncio.wait({permit, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            permit.cancel()
            end.cancel()
        if self._engine.fault is not None:
            raise self._engine.fault
        if self._open and self._engine.is_closed:
            raise EngineUnavailable("the engine ended before this request did")
        return bool(self._open)

    def _token(self, choice: int, position: int) -> TokenOutput:
        token_id = self._engine.next_token(self._request, choice, position)
        stop = self._request.stop
        finish = Finish.OPEN
        if token_id in stop.token_ids and position + 1 > stop.min_tokens:
            finish = Finish.STOP
        elif position + 1 == stop.max_tokens:
            finish = Finish.LENGTH
        return TokenOutput(choice, token_id, finish, self._logprobs(token_id))

    def _reading(self, position: int) -> tuple[tuple[TokenLogprobs, ...], bytes | None]:
        """Prompt log-probabilities and embedding of the step at this position."""
        reading, prompt = self._request.reading, self._request.prompt
        if reading is None or position > 0:
            return (), None
        logprobs: list[TokenLogprobs] = []
        if reading.num_logprobs is not None:
            top = tuple((i, -0.125 - i) for i in range(reading.num_logprobs))
            logprobs = [TokenLogprobs(-0.5 - i, top, i + 1) for i in range(reading.first, len(prompt))]
        embedding = None
        if reading.pooling is not None:
            embedding = embedding_of(prompt, reading.pooling, self._engine.info.hidden_size)
        return tuple(logprobs), embedding

    def _logprobs(self, token_id: int) -> TokenLogprobs | None:
        count = self._request.decoding.num_logprobs
        if count is None:
            return None
        return TokenLogprobs(-0.25, tuple((i, -1.0 - i) for i in range(count)))
