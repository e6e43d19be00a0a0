"""`DecodingParams`: how one request chooses its tokens, and how it is read from the fields of an API request.

Knows nothing of HTTP: it takes a mapping of field names to JSON values and raises `ParameterError` naming the field.
Invariant: a `DecodingParams` is complete and valid for its vocabulary; nothing in it is decided later.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.errors import ParameterError
from penstock_decoding.flat_fields import DIVERTED, FLAT_FIELDS, OTHER_FIELDS, SWITCHES
from penstock_decoding.flat_strategy import DETERMINISTIC, STRATEGY_FIELDS, FlatStrategy, read_flat_strategy
from penstock_decoding.processor import NamesTokens
from penstock_decoding.read import read_params, unknown_name
from penstock_decoding.texts import NamesTexts, TextEncoder

MAX_SEED = 2**63 - 1

# Processors that leave only the likeliest tokens. What excludes tokens by name must come before them: after them it
# could exclude all that is left.
CUTTERS = frozenset(("top_n_sigma", "top_h", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "mirostat", "xtc"))
EXCLUDERS = frozenset(
    ("grammar", "allowed_sequences", "bad_words", "allowed_tokens", "no_repeat_ngram", "min_tokens", "force_end")
)


@dataclass(frozen=True, slots=True)
class Step:
    """A name from a table (a processor or a strategy) and its validated parameters."""

    name: str
    params: Any


@dataclass(frozen=True, slots=True)
class DecodingParams:
    """How one request chooses its tokens.

    `num_logprobs`: None for no log-probabilities; k >= 0 for the chosen token's and those of the k likeliest, by the
    untouched model. `num_processed_logprobs`: likewise, of the distribution that is chosen from. `chain_trace`: tell
    what every step of the chain did to the distribution.
    """

    strategy: Step
    chain: tuple[Step, ...]
    seed: int
    num_logprobs: int | None = None
    num_processed_logprobs: int | None = None
    chain_trace: bool = False

    @property
    def min_tokens(self) -> int:
        """Tokens that an answer has at least before the one that ends it."""
        return next((step.params.count for step in self.chain if step.name == "min_tokens"), 0)


def read_decoding(
    fields: Mapping[str, object],
    *,
    vocab_size: int,
    max_choices: int = 128,
    catalogue: Catalogue = SHIPPED,
    encoder: TextEncoder | None = None,
) -> DecodingParams:
    """The decoding parameters of an API request.

    Args:
        fields: any of the flat fields (`FLAT_FIELDS`, `STRATEGY_FIELDS`), of `OTHER_FIELDS` and among them the object
            `decoding` (`{"strategy": ..., <its parameters>, "chain": [...]}`); a missing field and None mean the same.
        vocab_size: token ids at or above it are refused.
        max_choices: the largest `n`.
        catalogue: the processors and strategies that can be named.
        encoder: turns texts among the parameters into token ids; without one they are refused.

    Raises:
        ParameterError: names the field.
    """
    known = (*FLAT_FIELDS, *STRATEGY_FIELDS, *OTHER_FIELDS)
    for name in fields:
        if name not in known:
            raise ParameterError(name, unknown_name("decoding field", name, known))
    given = {name: value for name, value in fields.items() if value is not None}
    seed = given.pop("seed", None)
    num_logprobs, num_processed = (
        _read_num_logprobs(name, given.pop(name, None), vocab_size)
        for name in ("num_logprobs", "num_processed_logprobs")
    )
    decoding = given.pop("decoding", {})
    if not isinstance(decoding, Mapping):
        raise ParameterError("decoding", "must be an object")
    traces_chain = given.pop("chain_trace", False)
    if not isinstance(traces_chain, bool):
        raise ParameterError("chain_trace", "must be true or false")
    n = given.pop("n", None)
    flat = read_flat_strategy({name: given.pop(name) for name in STRATEGY_FIELDS if name in given}, n, decoding)
    is_greedy = _is_zero(given.get("temperature"))
    strategy = _read_strategy(decoding, flat, catalogue, greedy=is_greedy, max_choices=max_choices)
    if "chain" in decoding:
        if given:
            clash = next(iter(given))
            raise ParameterError(clash, f"{clash} and decoding.chain both shape the distribution; give one")
        chain = _read_chain(decoding["chain"], catalogue)
    else:
        chain = _default_chain(given, catalogue, is_greedy=strategy.name in DETERMINISTIC)
    paths = [
        f"decoding.chain[{i}].{step.name}" if "chain" in decoding else _flat_path(step, given)
        for i, step in enumerate(chain)
    ]
    strategy, *resolved = (
        _in_token_ids(step, path, vocab_size, encoder)
        for step, path in zip((strategy, *chain), ("decoding", *paths), strict=True)
    )
    return DecodingParams(strategy, tuple(resolved), _read_seed(seed), num_logprobs, num_processed, traces_chain)


def _read_strategy(
    decoding: Mapping[str, object], flat: FlatStrategy, catalogue: Catalogue, *, greedy: bool, max_choices: int
) -> Step:
    own = {key: value for key, value in decoding.items() if key not in ("strategy", "chain")}
    name = flat.name or decoding.get("strategy", "greedy" if greedy else "sample")
    if not isinstance(name, str) or name not in catalogue.strategies:
        raise ParameterError("decoding.strategy", unknown_name("strategy", str(name), catalogue.strategies))
    params_type = catalogue.strategies[name].Params
    for parameter, (field, value) in flat.parameters.items():
        if parameter not in params_type.__dataclass_fields__:
            raise ParameterError(field, f"the strategy {name!r} does not take it")
        if parameter in own:
            raise ParameterError(field, f"{field} and decoding.{parameter} mean the same; give one")
        own[parameter] = value
    try:
        params = read_params(params_type, own, "decoding")
    except ParameterError as error:
        raise ParameterError(_flat_name(error.param, flat), error.message) from None
    if not isinstance(params.n, int) or params.n < 1:  # a plug-in may not have looked
        raise ParameterError(_flat_name("decoding.n", flat), "must be at least 1")
    for parameter in ("n", "best_of"):
        if (getattr(params, parameter, None) or 0) > max_choices:
            raise ParameterError(_flat_name(f"decoding.{parameter}", flat), f"must be at most {max_choices}")
    return Step(name, params)


def _flat_name(param: str, flat: FlatStrategy) -> str:
    """A parameter's path as the caller wrote it: a flat field has none inside the object `decoding`."""
    field, _ = flat.parameters.get(param.removeprefix("decoding."), (param, None))
    return field


def _read_chain(value: object, catalogue: Catalogue) -> tuple[Step, ...]:
    if not isinstance(value, (list, tuple)):
        raise ParameterError("decoding.chain", "must be a list of objects with one processor each")
    steps: list[Step] = []
    for i, item in enumerate(value):
        path = f"decoding.chain[{i}]"
        if not isinstance(item, Mapping) or len(item) != 1:
            raise ParameterError(path, 'must be an object with one processor, like {"top_k": 40}')
        ((name, params),) = item.items()
        if name not in catalogue.processors:
            raise ParameterError(f"{path}.{name}", unknown_name("processor", str(name), catalogue.processors))
        if any(step.name == name for step in steps):
            raise ParameterError(f"{path}.{name}", "stands twice in the chain")
        cutter = next((step.name for step in steps if step.name in CUTTERS), None)
        if name in EXCLUDERS and cutter is not None:
            told = f"must come before {cutter}, which could leave nothing but what {name} excludes"
            raise ParameterError(f"{path}.{name}", told)
        steps.append(Step(name, read_params(catalogue.processors[name].Params, params, f"{path}.{name}")))
    return tuple(steps)


def _default_chain(given: Mapping[str, object], catalogue: Catalogue, *, is_greedy: bool) -> tuple[Step, ...]:
    asked: dict[str, object] = {}
    for field, value in given.items():
        processor, parameter, idle = FLAT_FIELDS[field]
        if is_greedy and processor == "temperature" and _is_zero(value):
            continue
        checked = _read_flat(catalogue.processors[processor].Params, field, processor, parameter, value)
        if getattr(checked, parameter) not in idle:
            asked[field] = value
    arguments: dict[str, dict[str, object]] = {}
    for field, value in asked.items():
        processor, parameter, _ = FLAT_FIELDS[field]
        switch = SWITCHES.get(field)
        if switch is not None and switch not in asked:
            if switch not in given:
                raise ParameterError(field, f"asks for nothing without {switch}")
            continue
        if field in DIVERTED and DIVERTED[field][0] in asked:
            _, processor, parameter = DIVERTED[field]
        arguments.setdefault(processor, {})[parameter] = value
    return tuple(
        Step(name, read_params(catalogue.processors[name].Params, arguments[name], name))
        for name in catalogue.default_order
        if name in arguments
    )


def _flat_path(step: Step, given: Mapping[str, object]) -> str:
    """The first flat field that asked for a processor of the default chain."""
    return next((field for field in given if FLAT_FIELDS[field][0] == step.name), step.name)


def _is_zero(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0


def _in_token_ids(step: Step, path: str, vocab_size: int, encoder: TextEncoder | None) -> Step:
    """The step without texts, its token ids checked."""
    if isinstance(step.params, NamesTexts) and step.params.has_texts:
        if encoder is None:
            raise ParameterError(path, "names texts, which need a tokenizer; give token ids")
        try:
            step = Step(step.name, step.params.with_token_ids(encoder))
        except ParameterError as error:
            raise ParameterError(path if path in FLAT_FIELDS else f"{path}.{error.param}", error.message) from None
    if isinstance(step.params, NamesTokens):
        for token in step.params.named_tokens():
            if not 0 <= token < vocab_size:
                raise ParameterError(path, f"token id {token} is outside the vocabulary of {vocab_size}")
    return step


def _read_flat(params: type[Any], field: str, processor: str, parameter: str, value: object) -> Any:
    # Read one parameter alone, so that a fault is named after the flat field and not after a path it never had.
    try:
        return read_params(params, {parameter: value}, processor)
    except ParameterError as error:
        own = f"{processor}.{parameter}"
        param = field + error.param.removeprefix(own) if error.param.startswith(own) else field
        raise ParameterError(param, error.message) from None


def _read_seed(value: object) -> int:
    if value is None:
        return secrets.randbits(53)  # so that a JavaScript client can send it back unrounded
    if not isinstance(value, int) or isinstance(value, bool) or not -MAX_SEED - 1 <= value <= MAX_SEED:
        raise ParameterError("seed", "must be a 64-bit integer")
    return value


def _read_num_logprobs(name: str, value: object, vocab_size: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ParameterError(name, "must be a non-negative integer")
    if value > vocab_size:
        raise ParameterError(name, f"must be at most {vocab_size}, the size of the vocabulary")
    return value
