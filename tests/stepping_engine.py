"""`SteppingEngine`: the real engine on scripted logits as an `EngineClient`, to test the server with every strategy.

A step is made when a stream waits for one. Requests and outputs are packed and unpacked on the way, as between the two
processes.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b

import numpy as np
from delivery import deliver
from numpy.typing import NDArray
from scripted_engine import LIMITS

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_engine.client_protocol import Delivered
from penstock_engine.config import EngineInfo, EngineStats
from penstock_engine.engine import Engine, Failure
from penstock_engine.errors import EngineUnavailable, RequestFailed
from penstock_engine.limits import Limits
from penstock_engine.messages import (
    ENCODER,
    FROM_ENGINE,
    TO_ENGINE,
    Stepped,
    Submit,
    pack_request,
    pack_step,
    unpack_request,
    unpack_step,
)
from penstock_engine.outputs import StepOutput
from penstock_engine.request import GenerationRequest
from penstock_engine.scripted import Script, ScriptedRunner


def letters_script(prefix: Sequence[int]) -> NDArray[np.float32]:
    """Logits [500] that any change of the prefix changes; the first hundred tokens are the likeliest."""
    digest = blake2b(np.asarray(prefix, np.int64).tobytes(), digest_size=8).digest()
    logits = np.random.default_rng(int.from_bytes(digest)).normal(size=500)
    logits[100:] -= 4
    return logits.astype(np.float32)


class SteppingEngine:
    """Everything in this process. The engine's books are checked after each step."""

    def __init__(
        self, info: EngineInfo, script: Script, vocabulary: Vocabulary | None = None, *, num_blocks: int = 2048
    ) -> None:
        limits = Limits(
            max_model_len=info.max_model_len,
            max_rows=64,
            max_batch_tokens=512,
            max_queue=64,
            num_blocks=num_blocks,
            block_size=LIMITS.block_size,
            vocab_size=info.vocab_size,
        )
        runner = ScriptedRunner(script, num_blocks=limits.num_blocks, block_size=limits.block_size)
        self.info = info
        self.failure: str | None = None
        # Without the cache a request tells the same figures when it comes again.
        self.engine = Engine(runner, limits, prefix_caching=False, vocabulary=vocabulary)
        self._streams: dict[str, SteppingStream] = {}

    @property
    def stats(self) -> EngineStats:
        return self.engine.stats

    async def submit(self, request: GenerationRequest) -> "SteppingStream":
        if self.failure is not None:
            raise EngineUnavailable(self.failure)
        message = TO_ENGINE.decode(ENCODER.encode(pack_request(0, request)))
        assert isinstance(message, Submit)
        unpacked = unpack_request(message, request.id)
        preparation = self.engine.prepare(unpacked)
        if preparation is not None:
            preparation.finish()
        self.engine.add(unpacked)
        stream = self._streams[request.id] = SteppingStream(self, request.id)
        return stream

    async def close(self, drain_timeout: float = 0.0) -> None:
        self.failure = "the engine is closed"

    def step(self) -> None:
        """One step, and what it gave to whom."""
        for request_id, output in self.engine.step():
            waiting = self._streams[request_id].outputs
            if isinstance(output, Failure):
                waiting.append(output)
                continue
            message = FROM_ENGINE.decode(ENCODER.encode(pack_step([(0, output)], self.stats)))
            assert isinstance(message, Stepped)
            waiting.extend(arrived for _, arrived in unpack_step(message))
        self.engine.check()


class SteppingStream:
    """One request's outputs."""

    def __init__(self, client: SteppingEngine, request_id: str) -> None:
        self._client = client
        self._request_id = request_id
        self.outputs: deque[StepOutput | Failure | None] = deque()

    def abort(self, choice: int | None = None) -> None:
        if self._client.engine.abort(self._request_id, choice):
            self.outputs.append(None)

    def deliver_to(self, take: Callable[[Delivered], None]) -> None:
        self._delivering = deliver(aiter(self), take)

    async def __aiter__(self) -> AsyncIterator[StepOutput]:
        while True:
            while not self.outputs:
                self._client.step()
            output = self.outputs.popleft()
            if output is None:
                return
            if isinstance(output, Failure):
                raise RequestFailed(output.message)
            yield output
            if output.is_last:
                return
