"""`LLM`: the engine in process, for scripts: a list of prompts in, a list of results out, no server and no HTTP."""

import itertools
import operator
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from penstock_decoding.params import read_decoding
from penstock_engine.build import build_engine
from penstock_engine.config import EngineConfig
from penstock_engine.engine import Failure
from penstock_engine.errors import RequestFailed, RequestRefused
from penstock_engine.outputs import StepOutput, StepTrace, TokenLogprobs
from penstock_engine.request import GenerationRequest, Pooling, PromptReading, StopConditions
from penstock_engine.text_codec import TextCodec, TextStream

Prompt = str | Sequence[int]


@dataclass(slots=True)
class Answer:
    """One answer. `text` is empty without a tokenizer; of the lists beside `token_ids`, those are filled that were
    asked for by `num_logprobs`, `num_processed_logprobs` and `chain_trace`.

    `token_ids` holds the token that ended the answer, if one did; `finish_reason` is "stop" or "length". `score`: what
    a search ranked the answer by, and `inclusion_probability`: that of being among the answers of a search without
    replacement; None where there is none, or where a stop string has cut the answer that it belongs to.
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    processed_logprobs: list[TokenLogprobs] = field(default_factory=list)
    chain_trace: list[tuple[StepTrace, ...]] = field(default_factory=list)
    finish_reason: str | None = None
    score: float | None = None
    inclusion_probability: float | None = None


@dataclass(slots=True)
class Result:
    """What one prompt gave: its answers, a search's best first, and the seed that gives the same ones again.

    There are as many answers as `n` asked for, or fewer if a search found fewer; none if no tokens were asked for.
    `prompt_logprobs`: of each token of the prompt; None of the first one, before which there is nothing. Empty unless
    asked for by `num_prompt_logprobs`.
    """

    prompt_token_ids: tuple[int, ...]
    seed: int
    answers: list[Answer]
    num_cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprobs | None] = field(default_factory=list)


class LLM:
    """A model in this process.

    Without a tokenizer, prompts are token ids and answers have no text. `plugins`: processors and strategies of your
    own, as classes or as `EngineConfig.plugin` names them.

    Raises:
        EngineStartError: the model could not be loaded; the message says why.
    """

    def __init__(
        self, config: EngineConfig, tokenizer: TextCodec | None = None, *, plugins: Sequence[type[Any] | str] = ()
    ) -> None:
        self._engine, self.info = build_engine(config, plugins, None if tokenizer is None else tokenizer.vocabulary())
        self._tokenizer = tokenizer
        self._encoder = None if tokenizer is None else tokenizer.encoder()
        self._ids = itertools.count()

    def generate(
        self,
        prompts: Iterable[Prompt],
        decoding: Mapping[str, object] | Sequence[Mapping[str, object]] = MappingProxyType({}),
        *,
        max_tokens: int | Sequence[int] = 16,
        stop: Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        num_prompt_logprobs: int | None = None,
        progress: bool = True,
    ) -> list[Result]:
        """Answer every prompt; all of them share the engine's batch.

        Args:
            prompts: texts, or token ids.
            decoding: the decoding fields of the HTTP API ("temperature", "top_p", "n", "seed", "num_logprobs", ...),
                the same for all prompts, or one mapping per prompt.
            max_tokens: the longest answer, for all prompts or one for each; 0 for none, with `num_prompt_logprobs`.
            num_prompt_logprobs: tell the log-probability of each prompt token, and this many of the likeliest at its
                place.
            progress: show a bar of finished prompts, with tokens per second.

        Raises:
            ParameterError: a decoding field is wrong.
            RequestRefused: a prompt could not be served even alone. Nothing has run then.
            RequestFailed: the model gave scores that are not finite, or a search found no answer.
        """
        encoded = [self._encode(prompt) for prompt in prompts]
        per_prompt = [decoding] * len(encoded) if isinstance(decoding, Mapping) else list(decoding)
        if len(per_prompt) != len(encoded):
            raise RequestRefused("decoding", f"{len(per_prompt)} mappings for {len(encoded)} prompts")
        lengths = [max_tokens] * len(encoded) if isinstance(max_tokens, int) else list(max_tokens)
        if len(lengths) != len(encoded):
            raise RequestRefused("max_tokens", f"{len(lengths)} lengths for {len(encoded)} prompts")
        if stop and self._tokenizer is None:
            raise RequestRefused("stop", "stop strings need a tokenizer; give LLM one, or use stop_token_ids")
        ending = (*stop_token_ids, *(() if ignore_eos else self.info.eos_token_ids))
        reading = None if num_prompt_logprobs is None else PromptReading(num_prompt_logprobs)
        requests = [
            self._request(prompt, fields, length, ending, reading)
            for prompt, fields, length in zip(encoded, per_prompt, lengths, strict=True)
        ]
        opened = self._run([_Open(request, self._tokenizer, stop) for request in requests], progress)
        return [each.result for each in opened]

    def embed(
        self, prompts: Iterable[Prompt], *, pooling: Pooling = "mean", progress: bool = True
    ) -> NDArray[np.float32]:
        """One vector for each prompt: [prompts, hidden_size] float32, not normalised.

        Args:
            prompts: texts, or token ids.
            pooling: the mean of the hidden states behind the model's last norm, or the last token's.
            progress: as in `generate`.

        Raises:
            RequestRefused: a prompt could not be served even alone. Nothing has run then.
            RequestFailed: the model gave hidden states that are not finite.
        """
        reading = PromptReading(pooling=pooling)
        requests = [self._request(self._encode(prompt), {}, 0, (), reading) for prompt in prompts]
        opened = self._run([_Open(request, None, ()) for request in requests], progress)
        vectors = [np.frombuffer(each.embedding, np.float32) for each in opened]
        return np.stack(vectors) if vectors else np.empty((0, self.info.hidden_size), np.float32)

    def _encode(self, prompt: Prompt) -> tuple[int, ...]:
        if not isinstance(prompt, str):
            try:
                return tuple(map(operator.index, prompt))  # NumPy's integers are as good
            except TypeError:
                raise RequestRefused("prompt", "token ids must be integers") from None
        if self._tokenizer is None:
            raise RequestRefused("prompt", "a text prompt needs a tokenizer; give LLM one, or pass token ids")
        return tuple(self._tokenizer.encode(prompt))

    def _request(
        self,
        prompt: tuple[int, ...],
        fields: Mapping[str, object],
        max_tokens: int,
        ending: tuple[int, ...],
        reading: PromptReading | None,
    ) -> GenerationRequest:
        params = read_decoding(
            fields, vocab_size=self.info.vocab_size, catalogue=self._engine.catalogue, encoder=self._encoder
        )
        stop = StopConditions(max_tokens, ending, params.min_tokens)
        request = GenerationRequest(str(next(self._ids)), prompt, params, stop, reading=reading)
        preparation = self._engine.prepare(request)
        if preparation is not None:
            preparation.finish()
        return request

    def _run(self, opened: "list[_Open]", progress: bool) -> "list[_Open]":
        """All of them, to their ends."""
        open_requests = {each.request.id: each for each in opened}
        waiting = deque(opened)
        num_tokens = 0
        with tqdm(total=len(open_requests), unit="prompt", disable=not progress) as bar:
            try:
                while waiting or self._engine.has_work:
                    while waiting and self._engine.stats.num_waiting < self._engine.limits.max_queue:
                        self._engine.add(waiting.popleft().request)
                    for request_id, output in self._engine.step():
                        if isinstance(output, Failure):
                            raise RequestFailed(f"prompt {list(open_requests).index(request_id)}: {output.message}")
                        for choice in open_requests[request_id].take(output):
                            self._engine.abort(request_id, choice)
                        num_tokens += len(output.tokens)
                        if open_requests[request_id].is_done:
                            bar.set_postfix_str(_rate(num_tokens, bar), refresh=False)
                            bar.update()
            finally:
                for request_id in open_requests:  # after a fault or Ctrl-C nothing stays behind in the engine
                    self._engine.abort(request_id)
        return opened


def _rate(num_tokens: int, bar: "tqdm[NoReturn]") -> str:
    elapsed = bar.format_dict["elapsed"]
    return f"{num_tokens / elapsed:.0f} tokens/s" if elapsed else ""


class _Open:
    """One request on its way to its `Result`, or to its prompt's `embedding`."""

    def __init__(self, request: GenerationRequest, tokenizer: TextCodec | None, stop: Sequence[str]) -> None:
        self.request = request
        num_answers = request.decoding.strategy.params.n if request.stop.max_tokens else 0
        self._answers = [Answer() for _ in range(num_answers)]
        self.result = Result(request.prompt, request.decoding.seed, self._answers)
        if request.reading is not None and request.reading.num_logprobs is not None:
            self.result.prompt_logprobs.append(None)
        self.embedding = b""
        self.is_done = False
        self._texts: list[TextStream] = [tokenizer.open_stream(stop) for _ in range(num_answers)] if tokenizer else []
        self._ending = frozenset(request.stop.token_ids)

    def take(self, output: StepOutput) -> list[int]:
        """Add a step's tokens. Returns the answers that a stop string has ended, which the engine cannot see."""
        stopped = []
        self.result.num_cached_tokens = output.num_cached_tokens
        self.result.prompt_logprobs += output.prompt_logprobs
        self.embedding = output.embedding or self.embedding
        for token in output.tokens:
            answer = self._answers[token.choice]
            if answer.finish_reason is not None:  # a stop string has ended it amid the tokens of this step
                continue
            answer.token_ids.append(token.token_id)
            if token.logprobs is not None:
                answer.logprobs.append(token.logprobs)
            if token.processed is not None:
                answer.processed_logprobs.append(token.processed)
            if token.trace is not None:
                answer.chain_trace.append(token.trace)
            answer.finish_reason = token.finish.reason
            answer.score, answer.inclusion_probability = token.score, token.inclusion_probability
            if self._texts and self._is_stopped(answer, token.choice, token.token_id):
                answer.finish_reason = "stop"
                stopped.append(token.choice)
        has_answers = all(answer.finish_reason for answer in self._answers) and bool(self._answers)
        self.is_done = output.is_last or has_answers
        if self.is_done:  # an answer that has not ended now does not exist: a search found fewer
            self.result.answers = [answer for answer in self._answers if answer.finish_reason]
        return stopped

    def _is_stopped(self, answer: Answer, choice: int, token_id: int) -> bool:
        text = self._texts[choice]
        # The token that ends an answer by itself is not part of its text.
        shown = [] if answer.finish_reason == "stop" and token_id in self._ending else [token_id]
        delta, is_stopped = text.push(shown)
        answer.text += delta
        if answer.finish_reason is not None and not is_stopped:
            answer.text += text.finish()
        return is_stopped
