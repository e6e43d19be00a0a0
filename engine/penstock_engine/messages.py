"""What the engine process and its clients say to each other: msgspec structs, packed as MessagePack arrays. No pickle.

Tokens travel as flat arrays, one `Stepped` per step and client, whatever the number of requests. A request is named by
its `handle`, a number that its client chose.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.finish import Finish
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.params import DecodingParams, Step
from penstock_engine.config import EngineConfig, EngineInfo, EngineStats
from penstock_engine.outputs import StepOutput, StepTrace, TokenLogprobs, TokenOutput, WatchedStep
from penstock_engine.request import GenerationRequest, PromptReading, StopConditions


class Start(msgspec.Struct, array_like=True, frozen=True):
    """What the engine process is started with. `vocabulary`: the bytes of the model's tokens, if it has a tokenizer."""

    config: EngineConfig
    vocabulary: Vocabulary | None


class Hello(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A client is there; answered by `Ready`, or by `Broken`."""


class Submit(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Queue a request; answered by `Accepted` or `Refused`. Parameters travel as their own fields, by table name."""

    handle: int
    id: str
    prompt: bytes  # int32
    strategy: tuple[str, dict[str, Any]]
    chain: list[tuple[str, dict[str, Any]]]
    seed: int
    num_logprobs: int | None
    num_processed_logprobs: int | None
    chain_trace: bool
    stop: StopConditions
    priority: int
    cache_salt: str
    is_watched: bool
    reading: PromptReading | None = None


class Abort(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Stop one answer of a request, or all (`choice` None)."""

    handle: int
    choice: int | None


class Gone(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The process of the client of this name has ended: whatever it has open ends, and no more is taken from it."""

    client: bytes


class Stop(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """End the engine process."""


class Ready(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The engine can take requests."""

    info: EngineInfo


class Broken(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The engine could not start, or its step loop failed. The process ends after this."""

    message: str


class Accepted(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The request is queued."""

    handle: int


class Refused(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The request can never be served as asked."""

    handle: int
    param: str
    message: str


class Full(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The queue is full."""

    handle: int
    num_waiting: int
    retry_after: int


class Failed(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """One request ended by a fault of its own."""

    handle: int
    message: str


class Ended(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """An abort ended the request; nothing follows."""

    handle: int


class Alive(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A sign of life and the state, sent when there has been nothing else to say for a while."""

    stats: EngineStats


class PackedLogprobs(msgspec.Struct, array_like=True, frozen=True):
    """Log-probabilities of a step's t tokens.

    chosen float64 [t] (NaN: not asked), num_top uint32 [t], and top_ids int32, top_values float64 [sum of num_top].
    """

    chosen: bytes
    num_top: bytes
    top_ids: bytes
    top_values: bytes


class PackedReadings(msgspec.Struct, array_like=True, frozen=True):
    """What a step told of prompts.

    num_told uint32 [r]: how many prompt tokens, per request; of all of them, requests one after the other, `logprobs`
    and ranks int32. embeddings: float32, by place in `Stepped.handles`.
    """

    num_told: bytes
    logprobs: PackedLogprobs | None
    ranks: bytes
    embeddings: dict[int, bytes]


class Stepped(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """One step's tokens for one client.

    Per request (r of them): handles uint64, num_tokens uint32, is_last uint8, num_cached int32.
    Per token (t, requests one after the other): choices uint16, token_ids int32, finishes uint8.
    `model` and `processed` log-probabilities: None when no request asked.
    `scores` and `inclusion_probabilities`, float64 [t], NaN: none; empty when no token has one.
    `traces`: None or the chain's steps for each token; empty when no token has any. `watched`: by place in `handles`.
    `read`: None when the step told nothing of a prompt.
    """

    stats: EngineStats
    handles: bytes
    num_tokens: bytes
    is_last: bytes
    num_cached: bytes
    choices: bytes
    token_ids: bytes
    finishes: bytes
    model: PackedLogprobs | None = None
    processed: PackedLogprobs | None = None
    scores: bytes = b""
    inclusion_probabilities: bytes = b""
    traces: list[tuple[StepTrace, ...] | None] = []
    watched: dict[int, WatchedStep] = {}
    read: PackedReadings | None = None


# Calling an enumeration takes longer than making a token's output.
_FINISHES = tuple(Finish)

ToEngine = Hello | Submit | Abort | Gone | Stop
FromEngine = Ready | Broken | Accepted | Refused | Full | Failed | Ended | Alive | Stepped

ENCODER = msgspec.msgpack.Encoder()
TO_ENGINE = msgspec.msgpack.Decoder(ToEngine)
FROM_ENGINE = msgspec.msgpack.Decoder(FromEngine)


def pack_request(handle: int, request: GenerationRequest) -> Submit:
    """A request as it travels."""
    decoding = request.decoding
    return Submit(
        handle=handle,
        id=request.id,
        prompt=np.asarray(request.prompt, np.int32).tobytes(),
        strategy=_pack_step(decoding.strategy),
        chain=[_pack_step(step) for step in decoding.chain],
        seed=decoding.seed,
        num_logprobs=decoding.num_logprobs,
        num_processed_logprobs=decoding.num_processed_logprobs,
        chain_trace=decoding.chain_trace,
        stop=request.stop,
        priority=request.priority,
        cache_salt=request.cache_salt,
        is_watched=request.is_watched,
        reading=request.reading,
    )


def unpack_request(message: Submit, request_id: str, catalogue: Catalogue = SHIPPED) -> GenerationRequest:
    """The request again, under an id that is unique in the engine."""
    strategy, strategy_params = message.strategy
    return GenerationRequest(
        id=request_id,
        prompt=tuple(np.frombuffer(message.prompt, np.int32).tolist()),
        decoding=DecodingParams(
            strategy=Step(strategy, msgspec.convert(strategy_params, catalogue.strategies[strategy].Params)),
            chain=tuple(Step(name, msgspec.convert(p, catalogue.processors[name].Params)) for name, p in message.chain),
            seed=message.seed,
            num_logprobs=message.num_logprobs,
            num_processed_logprobs=message.num_processed_logprobs,
            chain_trace=message.chain_trace,
        ),
        stop=message.stop,
        priority=message.priority,
        cache_salt=message.cache_salt,
        is_watched=message.is_watched,
        reading=message.reading,
    )


def pack_step(outputs: list[tuple[int, StepOutput]], stats: EngineStats) -> Stepped:
    """One step's outputs by handle, as flat arrays."""
    tokens = [token for _, output in outputs for token in output.tokens]
    arrays: dict[str, NDArray[Any]] = {
        "handles": np.asarray([handle for handle, _ in outputs], np.uint64),
        "num_tokens": np.asarray([len(output.tokens) for _, output in outputs], np.uint32),
        "is_last": np.asarray([output.is_last for _, output in outputs], np.uint8),
        "num_cached": np.asarray([output.num_cached_tokens for _, output in outputs], np.int32),
        "choices": np.asarray([token.choice for token in tokens], np.uint16),
        "token_ids": np.asarray([token.token_id for token in tokens], np.int32),
        "finishes": np.asarray([token.finish for token in tokens], np.uint8),
    }
    if any(token.score is not None for token in tokens):
        arrays["scores"] = _numbers([token.score for token in tokens])
        arrays["inclusion_probabilities"] = _numbers([token.inclusion_probability for token in tokens])
    return Stepped(
        stats,
        **{name: array.tobytes() for name, array in arrays.items()},
        model=_pack_logprobs([token.logprobs for token in tokens]),
        processed=_pack_logprobs([token.processed for token in tokens]),
        traces=[token.trace for token in tokens] if any(token.trace is not None for token in tokens) else [],
        watched={i: output.watched for i, (_, output) in enumerate(outputs) if output.watched is not None},
        read=_pack_readings([output for _, output in outputs]),
    )


def unpack_step(message: Stepped) -> list[tuple[int, StepOutput]]:
    """The outputs again, by handle."""
    columns: list[Iterable[Any]] = [
        np.frombuffer(message.choices, np.uint16).tolist(),
        np.frombuffer(message.token_ids, np.int32).tolist(),
        map(_FINISHES.__getitem__, message.finishes),
    ]
    if message.model or message.processed or message.scores or message.traces:
        num_tokens_in_all = len(message.finishes)
        columns += [
            _unpack_logprobs(message.model, num_tokens_in_all),
            _unpack_logprobs(message.processed, num_tokens_in_all),
            _optional(message.scores, num_tokens_in_all),
            _optional(message.inclusion_probabilities, num_tokens_in_all),
            message.traces or [None] * num_tokens_in_all,
        ]
    tokens = itertools.starmap(TokenOutput, zip(*columns, strict=True))
    per_request = zip(
        np.frombuffer(message.handles, np.uint64).tolist(),
        np.frombuffer(message.num_tokens, np.uint32).tolist(),
        map(bool, message.is_last),
        np.frombuffer(message.num_cached, np.int32).tolist(),
        strict=True,
    )
    watched = message.watched
    outputs = [
        (handle, StepOutput(tuple(itertools.islice(tokens, num_tokens)), is_last, num_cached, watched.get(i)))
        for i, (handle, num_tokens, is_last, num_cached) in enumerate(per_request)
    ]
    return outputs if message.read is None else _with_readings(outputs, message.read)


def _pack_step(step: Step) -> tuple[str, dict[str, Any]]:
    return step.name, {field.name: getattr(step.params, field.name) for field in dataclasses.fields(step.params)}


def _pack_readings(outputs: list[StepOutput]) -> PackedReadings | None:
    if not any(output.prompt_logprobs or output.embedding is not None for output in outputs):
        return None
    told = [one for output in outputs for one in output.prompt_logprobs]
    return PackedReadings(
        num_told=np.asarray([len(output.prompt_logprobs) for output in outputs], np.uint32).tobytes(),
        logprobs=_pack_logprobs(told),
        ranks=np.asarray([one.rank for one in told], np.int32).tobytes(),
        embeddings={i: output.embedding for i, output in enumerate(outputs) if output.embedding is not None},
    )


def _with_readings(outputs: list[tuple[int, StepOutput]], read: PackedReadings) -> list[tuple[int, StepOutput]]:
    ranks = np.frombuffer(read.ranks, np.int32).tolist()
    logprobs = _unpack_logprobs(read.logprobs, len(ranks))
    told = (TokenLogprobs(one.chosen, one.top, rank) for one, rank in zip(logprobs, ranks, strict=True) if one)
    return [
        (
            handle,
            output._replace(prompt_logprobs=tuple(itertools.islice(told, num_told)), embedding=read.embeddings.get(i)),
        )
        for i, ((handle, output), num_told) in enumerate(
            zip(outputs, np.frombuffer(read.num_told, np.uint32).tolist(), strict=True)
        )
    ]


def _pack_logprobs(logprobs: Sequence[TokenLogprobs | None]) -> PackedLogprobs | None:
    if all(one is None for one in logprobs):
        return None
    tops = [one.top if one else () for one in logprobs]
    return PackedLogprobs(
        chosen=np.asarray([one.chosen if one else np.nan for one in logprobs], np.float64).tobytes(),
        num_top=np.asarray([len(top) for top in tops], np.uint32).tobytes(),
        top_ids=np.asarray([token_id for top in tops for token_id, _ in top], np.int32).tobytes(),
        top_values=np.asarray([value for top in tops for _, value in top], np.float64).tobytes(),
    )


def _unpack_logprobs(packed: PackedLogprobs | None, num_tokens: int) -> list[TokenLogprobs | None]:
    if packed is None:
        return [None] * num_tokens
    chosen = np.frombuffer(packed.chosen, np.float64).tolist()
    ends = np.cumsum(np.frombuffer(packed.num_top, np.uint32)).tolist()
    top_ids = np.frombuffer(packed.top_ids, np.int32).tolist()
    top = tuple(zip(top_ids, np.frombuffer(packed.top_values, np.float64).tolist(), strict=True))
    starts = [0, *ends[:-1]]
    return [
        None if value != value else TokenLogprobs(value, top[start:end])  # NaN: this request did not ask
        for value, start, end in zip(chosen, starts, ends, strict=True)
    ]


def _numbers(values: list[float | None]) -> NDArray[np.float64]:
    return np.asarray([np.nan if value is None else value for value in values], np.float64)


def _optional(packed: bytes, num_tokens: int) -> list[float | None]:
    values = np.frombuffer(packed, np.float64).tolist() if packed else [np.nan] * num_tokens
    return [None if value != value else value for value in values]
