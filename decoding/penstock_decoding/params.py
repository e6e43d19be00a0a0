"""`DecodingParams`: how one request chooses its tokens, and how it is read from the fields of an API request.

Knows nothing of HTTP: it takes a mapping of field names to JSON values and raises `ParameterError` naming the field.
Invariant: a `DecodingParams` is complete and valid for its vocabulary; nothing in it is decided later.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock_decoding.errors import ParameterError
from penstock_decoding.processor import NamesTokens
from penstock_decoding.processors import DEFAULT_ORDER, PROCESSORS
from penstock_decoding.read import read_params, unknown_name
from penstock_decoding.strategies import STRATEGIES

MAX_SEED = 2**63 - 1

# Processors that leave only the likeliest tokens. What excludes tokens by name must come before them: after them it
# could exclude all that is left.
CUTTERS = frozenset(("top_k", "top_p", "min_p"))

# Flat field -> (processor, its parameter, the values that mean "not asked for").
FLAT_FIELDS: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "min_tokens": ("min_tokens", "count", (0,)),
    "logit_bias": ("logit_bias", "bias", ({},)),
    "repetition_penalty": ("penalties", "repetition", (1.0,)),
    "presence_penalty": ("penalties", "presence", (0.0,)),
    "frequency_penalty": ("penalties", "frequency", (0.0,)),
    "temperature": ("temperature", "value", (1.0,)),
    "top_k": ("top_k", "count", (0, -1)),
    "top_p": ("top_p", "mass", (1.0,)),
    "min_p": ("min_p", "share", (0.0,)),
}
OTHER_FIELDS = ("n", "seed", "num_logprobs", "decoding")


@dataclass(frozen=True, slots=True)
class Step:
    """A name from a table (a processor or a strategy) and its validated parameters."""

    name: str
    params: Any


@dataclass(frozen=True, slots=True)
class DecodingParams:
    """How one request chooses its tokens.

    `num_logprobs`: None for no log-probabilities; k >= 0 for the chosen token's and those of the k likeliest.
    """

    strategy: Step
    chain: tuple[Step, ...]
    seed: int
    num_logprobs: int | None = None


def read_decoding(fields: Mapping[str, object], *, vocab_size: int, max_choices: int = 128) -> DecodingParams:
    """The decoding parameters of an API request.

    Args:
        fields: any of the flat fields (`FLAT_FIELDS`), `n`, `seed`, `num_logprobs`, and the object `decoding`
            (`{"strategy": ..., <its parameters>, "chain": [...]}`); a missing field and None mean the same.
        vocab_size: token ids at or above it are refused.
        max_choices: the largest `n`.

    Raises:
        ParameterError: names the field.
    """
    known = (*FLAT_FIELDS, *OTHER_FIELDS)
    for name in fields:
        if name not in known:
            raise ParameterError(name, unknown_name("decoding field", name, known))
    given = {name: value for name, value in fields.items() if value is not None}
    seed = given.pop("seed", None)
    num_logprobs = given.pop("num_logprobs", None)
    decoding = given.pop("decoding", {})
    if not isinstance(decoding, Mapping):
        raise ParameterError("decoding", "must be an object")
    n = given.pop("n", None)
    strategy = _read_strategy(decoding, n, greedy=_is_zero(given.get("temperature")), max_choices=max_choices)
    if "chain" in decoding:
        if given:
            clash = next(iter(given))
            raise ParameterError(clash, f"{clash} and decoding.chain both shape the distribution; give one")
        chain = _read_chain(decoding["chain"])
    else:
        chain = _default_chain(given, is_greedy=strategy.name == "greedy")
    for i, step in enumerate(chain):
        if isinstance(step.params, NamesTokens):
            path = f"decoding.chain[{i}].{step.name}" if "chain" in decoding else step.name
            _check_vocabulary(step.params, path, vocab_size)
    return DecodingParams(strategy, chain, _read_seed(seed), _read_num_logprobs(num_logprobs, vocab_size))


def _read_strategy(decoding: Mapping[str, object], n: object, *, greedy: bool, max_choices: int) -> Step:
    own = {key: value for key, value in decoding.items() if key not in ("strategy", "chain")}
    name = decoding.get("strategy", "greedy" if greedy else "sample")
    if not isinstance(name, str) or name not in STRATEGIES:
        raise ParameterError("decoding.strategy", unknown_name("strategy", str(name), STRATEGIES))
    if n is not None:
        if "n" in own:
            raise ParameterError("n", "n and decoding.n both give the number of answers; give one")
        own["n"] = n
    try:
        params = read_params(STRATEGIES[name].Params, own, "decoding")
    except ParameterError as error:
        # The flat field is `n`; its path inside the object would not be found in the caller's request.
        raise ParameterError(
            "n" if error.param == "decoding.n" and n is not None else error.param, error.message
        ) from None
    if params.n > max_choices:
        raise ParameterError("n" if n is not None else "decoding.n", f"must be at most {max_choices}")
    return Step(name, params)


def _read_chain(value: object) -> tuple[Step, ...]:
    if not isinstance(value, (list, tuple)):
        raise ParameterError("decoding.chain", "must be a list of objects with one processor each")
    steps: list[Step] = []
    for i, item in enumerate(value):
        path = f"decoding.chain[{i}]"
        if not isinstance(item, Mapping) or len(item) != 1:
            raise ParameterError(path, 'must be an object with one processor, like {"top_k": 40}')
        ((name, params),) = item.items()
        if name not in PROCESSORS:
            raise ParameterError(f"{path}.{name}", unknown_name("processor", str(name), PROCESSORS))
        if any(step.name == name for step in steps):
            raise ParameterError(f"{path}.{name}", "stands twice in the chain")
        cutter = next((step.name for step in steps if step.name in CUTTERS), None)
        if name == "min_tokens" and cutter is not None:
            raise ParameterError(f"{path}.{name}", f"must come before {cutter}, which could leave only stop tokens")
        steps.append(Step(name, read_params(PROCESSORS[name].Params, params, f"{path}.{name}")))
    return tuple(steps)


def _default_chain(given: Mapping[str, object], *, is_greedy: bool) -> tuple[Step, ...]:
    arguments: dict[str, dict[str, object]] = {}
    for field, value in given.items():
        processor, parameter, idle = FLAT_FIELDS[field]
        if is_greedy and processor == "temperature" and _is_zero(value):
            continue
        checked = _read_flat(field, processor, parameter, value)
        if getattr(checked, parameter) not in idle:
            arguments.setdefault(processor, {})[parameter] = value
    return tuple(
        Step(name, read_params(PROCESSORS[name].Params, arguments[name], name))
        for name in DEFAULT_ORDER
        if name in arguments
    )


def _is_zero(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0


def _check_vocabulary(params: NamesTokens, path: str, vocab_size: int) -> None:
    for token in params.named_tokens():
        if not 0 <= token < vocab_size:
            raise ParameterError(path, f"token id {token} is outside the vocabulary of {vocab_size}")


def _read_flat(field: str, processor: str, parameter: str, value: object) -> Any:
    # Read one parameter alone, so that a fault is named after the flat field and not after a path it never had.
    try:
        return read_params(PROCESSORS[processor].Params, {parameter: value}, processor)
    except ParameterError as error:
        raise ParameterError(error.param.replace(f"{processor}.{parameter}", field), error.message) from None


def _read_seed(value: object) -> int:
    if value is None:
        return secrets.randbits(53)  # so that a JavaScript client can send it back unrounded
    if not isinstance(value, int) or isinstance(value, bool) or not -MAX_SEED - 1 <= value <= MAX_SEED:
        raise ParameterError("seed", "must be a 64-bit integer")
    return value


def _read_num_logprobs(value: object, vocab_size: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ParameterError("num_logprobs", "must be a non-negative integer")
    if value > vocab_size:
        raise ParameterError("num_logprobs", f"must be at most {vocab_size}, the size of the vocabulary")
    return value
