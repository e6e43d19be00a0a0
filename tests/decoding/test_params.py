"""`read_decoding`: the fields of a request and the decoding they ask for."""

import json
import math
from typing import Any

import pytest

from penstock_decoding.errors import ParameterError
from penstock_decoding.flat_fields import FLAT_FIELDS, OTHER_FIELDS
from penstock_decoding.flat_strategy import STRATEGY_FIELDS
from penstock_decoding.params import MAX_SEED, DecodingParams, Step, read_decoding
from penstock_decoding.processors import DEFAULT_ORDER, PROCESSORS
from penstock_decoding.processors.logit_bias import LogitBiasParams
from penstock_decoding.processors.min_p import MinPParams
from penstock_decoding.processors.min_tokens import MinTokensParams
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.processors.top_p import TopPParams
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.strategies.greedy import GreedyParams
from penstock_decoding.strategies.sample import SampleParams

VOCAB_SIZE = 1000
HUGE = 10**400  # JSON has no largest integer, float has
INFINITE = (math.nan, math.inf, -math.inf)
NO_NUMBERS: tuple[object, ...] = ("1", "", True, False, [], [1], {}, {"value": 1})
NO_INTEGERS = (*NO_NUMBERS, *INFINITE, 1.5, 2.0)

# Field -> values it must refuse.
WRONG: dict[str, tuple[object, ...]] = {
    "temperature": (*NO_NUMBERS, *INFINITE, HUGE, -HUGE, -0.01, 2.01),
    "top_p": (*NO_NUMBERS, *INFINITE, HUGE, 0, -0.1, 1.01),
    "min_p": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 1.01),
    "dynatemp_range": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 5.01),
    "dynatemp_exponent": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 10.01),
    "top_n_sigma": (*NO_NUMBERS, *INFINITE, HUGE, -0.5, -1.01, 100.01),
    "top_h": (*NO_NUMBERS, *INFINITE, HUGE, 0, -0.1, 1.01),
    "typical_p": (*NO_NUMBERS, *INFINITE, HUGE, 0, -0.1, 1.01),
    "epsilon_cutoff": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 1),
    "eta_cutoff": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 1),
    "mirostat": (*NO_INTEGERS, -1, 3, HUGE),
    "mirostat_tau": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 20.01),
    "mirostat_eta": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 1.01),
    "top_k": (*NO_INTEGERS, -2, -HUGE),
    "guided_json": (1, [], "", "[1]", "{", "nonsense", "null", [{}], {"a": math.nan}, "{" * 5000, {"a": "x" * 262144}),
    "guided_regex": (1, True, [], {}, ["a"], "x" * 262145),
    "guided_choice": ("a", 1, True, {}, [], [1], [None], [["a"]], ["a"] * 4097, ["x" * 262145]),
    "guided_grammar": (1, True, [], {}, "x" * 262145),
    "allowed_sequences": (
        *("1", 1, True, {}, [], [1], [[]], [[5], []], ["5"], [[[5]]], [["5"]], [[5.0]], [[True]], [[None]]),
        *([[-1]], [[5, VOCAB_SIZE]], [[HUGE]], [[5] * 1025], [[i % 999, i % 998] for i in range(100_001)]),
    ),
    "allowed_texts": ("cat", 1, True, {}, [], [1], [["cat"]], [None], [""], ["cat", ""], ["x" * 4_000_001]),
    "bad_words": ("cat", 1, True, {}, [1], [["cat"]], [None], [""], ["cat", " "], ["x" * 1025], ["cat"] * 4097),
    "bad_words_ids": (
        *("1", 1, True, {}, [1], [[]], [[5], []], ["5"], [[[5]]], [["5"]], [[5.0]], [[True]], [[None]]),
        *([[-1]], [[5, VOCAB_SIZE]], [[HUGE]], [[5] * 257], [[5]] * 4097),
    ),
    "allowed_token_ids": (
        *("1", 1, True, {}, [], [[5]], ["5"], [5.0], [True], [None], [-1], [5, VOCAB_SIZE], [HUGE], [5] * (2**20 + 1)),
    ),
    "no_repeat_ngram_size": (*NO_INTEGERS, -1, 257, HUGE, -HUGE),
    "dry_multiplier": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 100.1),
    "dry_base": (*NO_NUMBERS, *INFINITE, HUGE, 0, 0.99, 100.1),
    "dry_allowed_length": (*NO_INTEGERS, 0, -1, HUGE, -HUGE),
    "dry_penalty_last_n": (*NO_INTEGERS, -2, HUGE, -HUGE),
    "dry_sequence_breakers": ("a", 1, True, {}, [1], [["a"]], [None], [""], ["a", "x" * 65], ["a"] * 65),
    "xtc_probability": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 1.01),
    "xtc_threshold": (*NO_NUMBERS, *INFINITE, HUGE, -0.1, 1.01),
    "min_tokens": (*NO_INTEGERS, -1, -HUGE),
    "repetition_penalty": (*NO_NUMBERS, *INFINITE, HUGE, 0, -1, 10.01),
    "presence_penalty": (*NO_NUMBERS, *INFINITE, HUGE, -2.01, 2.01),
    "frequency_penalty": (*NO_NUMBERS, *INFINITE, HUGE, -2.01, 2.01),
    "logit_bias": (
        *("1", 1, True, [], [[5, 1.0]]),
        *({"x": 1}, {"1.5": 1}, {"": 1}, {1.5: 1}, {True: 1}, {None: 1}, {"9" * 5000: 1}),
        *({"-1": 1}, {str(VOCAB_SIZE): 1}, {str(HUGE): 1}, {-1: 1}, {VOCAB_SIZE: 1}),
        *({"5": value} for value in (*NO_NUMBERS, *INFINITE, HUGE, None, 100.01, -100.01)),
    ),
    "n": (*NO_INTEGERS, 0, -1, 129, HUGE),
    "seed": (*NO_INTEGERS, 2**63, -(2**63) - 1, HUGE),
    "num_logprobs": (*NO_INTEGERS, -1, VOCAB_SIZE + 1, HUGE),
    "num_processed_logprobs": (*NO_INTEGERS, -1, VOCAB_SIZE + 1, HUGE),
    "chain_trace": ("true", 0, 1, [], {}),
    "decoding": ("sample", 1, True, [], ["sample"]),
}


def read(**fields: object) -> DecodingParams:
    return read_decoding(fields, vocab_size=VOCAB_SIZE)


def chain_of(**fields: object) -> dict[str, Any]:
    """The processors that fields ask for, by name."""
    return {step.name: step.params for step in read(**fields).chain}


def refused(**fields: object) -> ParameterError:
    """The error that the fields cause."""
    with pytest.raises(ParameterError) as caught:
        read(**fields)
    assert str(caught.value) == f"{caught.value.param}: {caught.value.message}"
    return caught.value


def test_nothing_asked() -> None:
    """A request without decoding fields samples the model's own distribution, and costs no processor."""
    params = read()
    assert (params.strategy, params.chain, params.num_logprobs) == (Step("sample", SampleParams(n=1)), (), None)


def test_none_means_missing() -> None:
    """A client that sends every field as null asks for nothing."""
    params = read(**dict.fromkeys([*FLAT_FIELDS, *STRATEGY_FIELDS, *OTHER_FIELDS]))
    assert (params.strategy, params.chain, params.num_logprobs) == (Step("sample", SampleParams(n=1)), (), None)


def test_flat_fields_build_the_default_chain() -> None:
    """Flat fields, in whatever order, build the default chain in its order."""
    chain = read(
        min_p=0.1,
        top_k=40,
        frequency_penalty=0.5,
        top_p=0.9,
        temperature=0.7,
        repetition_penalty=1.1,
        logit_bias={"5": 1, "6": -2.5},
        presence_penalty=-0.5,
        min_tokens=3,
    ).chain
    assert chain == (
        Step("min_tokens", MinTokensParams(3)),
        Step("logit_bias", LogitBiasParams({5: 1.0, 6: -2.5})),
        Step("penalties", PenaltiesParams(repetition=1.1, presence=-0.5, frequency=0.5)),
        Step("temperature", TemperatureParams(0.7)),
        Step("top_k", TopKParams(40)),
        Step("top_p", TopPParams(0.9)),
        Step("min_p", MinPParams(0.1)),
    )
    names = [step.name for step in chain]
    assert names == [name for name in DEFAULT_ORDER if name in names]


def test_every_processor_has_a_flat_field() -> None:
    """The table of flat fields names processors and parameters that exist, and reaches each processor but those for
    which no other API has a name."""
    chain_only = {"adaptive_temperature", "force_end"}
    assert {processor for processor, _, _ in FLAT_FIELDS.values()} == set(PROCESSORS) - chain_only
    for processor, parameter, _ in FLAT_FIELDS.values():
        assert parameter in PROCESSORS[processor].Params.__dataclass_fields__


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 1),
        ("temperature", 1.0),
        ("top_p", 1),
        ("top_p", 1.0),
        ("top_k", 0),
        ("top_k", -1),
        ("min_p", 0),
        ("min_p", -0.0),
        ("min_tokens", 0),
        ("bad_words", []),
        ("bad_words_ids", []),
        ("no_repeat_ngram_size", 0),
        ("dry_multiplier", 0),
        ("xtc_probability", 0.0),
        ("repetition_penalty", 1),
        ("presence_penalty", 0.0),
        ("frequency_penalty", -0.0),
        ("logit_bias", {}),
    ],
)
def test_idle_values_add_no_step(field: str, value: object) -> None:
    """A client that spells out the defaults pays for no processor."""
    assert chain_of(**{field: value}) == {}


def test_idle_penalties_do_not_undo_others() -> None:
    """One penalty asked for beside two neutral ones is one step with that penalty."""
    chain = chain_of(repetition_penalty=1.0, presence_penalty=0.5, frequency_penalty=0)
    assert chain == {"penalties": PenaltiesParams(presence=0.5)}


def test_integers_are_numbers() -> None:
    """JSON does not tell 2 from 2.0: an integer is taken where a number is wanted, as a float."""
    params = chain_of(temperature=2)["temperature"]
    assert (params, type(params.value)) == (TemperatureParams(2.0), float)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("temperature", (5e-324, 2)),
        ("top_p", (5e-324, 0.999)),
        ("min_p", (5e-324, 1)),
        ("top_k", (1, 10**30)),
        ("min_tokens", (1, 10**30)),
        ("bad_words_ids", ([[0]], [[VOCAB_SIZE - 1] * 256] * 4096)),
        ("allowed_token_ids", ([0], [VOCAB_SIZE - 1] * 2**20)),
        ("no_repeat_ngram_size", (1, 256)),
        ("xtc_probability", (5e-324, 1)),
        ("repetition_penalty", (0.1, 10)),
        ("presence_penalty", (-2, 2)),
        ("frequency_penalty", (-2, 2)),
        ("logit_bias", ({"0": -100}, {str(VOCAB_SIZE - 1): 100})),
    ],
)
def test_ends_of_ranges(field: str, values: tuple[object, ...]) -> None:
    """The ends of each range are inside it."""
    for value in values:
        assert len(chain_of(**{field: value})) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WRONG.items() for value in values],
    ids=lambda value: repr(value)[:24],
)
def test_wrong_values(field: str, value: object) -> None:
    """A value of the wrong type or out of range is refused, by the name of the field that the caller wrote."""
    error = refused(**{field: value})
    assert error.param == field or error.param.startswith(f"{field}[")


def test_every_field_is_checked() -> None:
    """A field that joins the tables also joins the table of wrong values."""
    assert set(WRONG) == {*FLAT_FIELDS, *OTHER_FIELDS}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 3}, "must be between 0 and 2"),
        ({"temperature": "hot"}, "must be a number"),
        ({"temperature": math.nan}, "must be a finite number"),
        ({"top_p": 0}, "must be above 0 and at most 1"),
        ({"top_k": -5}, "must be at least 1, or 0 to keep every token"),
        ({"top_k": 2.5}, "must be an integer"),
        ({"repetition_penalty": 0}, "must be between 0.01 and 10"),
        ({"presence_penalty": 3}, "must be between -2 and 2"),
        ({"logit_bias": {"5": 101}}, "the bias of token 5 must be between -100 and 100"),
        ({"logit_bias": {"five": 1}}, "the key 'five' is not a token id"),
        ({"logit_bias": {"1000": 1}}, "token id 1000 is outside the vocabulary of 1000"),
        ({"logit_bias": "5"}, "must be an object"),
        ({"n": 0}, "must be at least 1"),
        ({"n": 129}, "must be at most 128"),
        ({"seed": 2**63}, "must be a 64-bit integer"),
        ({"num_logprobs": -1}, "must be a non-negative integer"),
        ({"num_logprobs": 1001}, "must be at most 1000, the size of the vocabulary"),
        ({"decoding": []}, "must be an object"),
    ],
    ids=json.dumps,
)
def test_messages(fields: dict[str, object], message: str) -> None:
    """The message says what would be right, in the caller's words."""
    assert refused(**fields).message == message


@pytest.mark.parametrize("field", [*FLAT_FIELDS, "n", "seed"])
def test_messages_name_no_internal_word(field: str) -> None:
    """No message speaks of the parameter that a flat field fills: its name ("count", "mass") is not the caller's."""
    internal = {parameter for _, parameter, _ in FLAT_FIELDS.values()} - {
        *("bias", "repetition", "presence", "frequency", "tokens", "words", "texts", "sequences")
    }
    for value in WRONG[field]:
        assert not internal & set(refused(**{field: value}).message.split())


@pytest.mark.parametrize(
    ("field", "near"), [("temprature", "temperature"), ("topp", "top_p"), ("sed", "seed"), ("decodin", "decoding")]
)
@pytest.mark.parametrize("more", [{}, {"decoding": {"chain": []}}], ids=["flat", "chain"])
def test_unknown_fields_name_the_nearest(field: str, near: str, more: dict[str, object]) -> None:
    """A misspelt field is refused and the nearest named; beside a chain it once went unnoticed."""
    error = refused(**{field: 1}, **({} if near == "decoding" else more))
    assert (error.param, error.message) == (field, f"unknown decoding field; did you mean {near!r}?")


def test_unknown_field_without_a_near_one() -> None:
    """A field that resembles none lists them all."""
    assert refused(xyz=None).message == "unknown decoding field; known: " + ", ".join(
        sorted([*FLAT_FIELDS, *STRATEGY_FIELDS, *OTHER_FIELDS])
    )


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_temperature_zero_is_greedy(zero: float) -> None:
    """OpenAI's way to ask for greedy decoding; other fields keep their step, the temperature has none."""
    params = read(temperature=zero, top_k=5, n=3)
    assert params.strategy == Step("greedy", GreedyParams(n=3))
    assert params.chain == (Step("top_k", TopKParams(5)),)


def test_greedy_named() -> None:
    """Greedy by name goes with any temperature, 0 included, and keeps what reshapes the distribution."""
    decoding = {"strategy": "greedy"}
    assert read(decoding=decoding).strategy == Step("greedy", GreedyParams())
    assert read(decoding=decoding, temperature=0).chain == ()
    assert read(decoding=decoding, temperature=0.5).chain == (Step("temperature", TemperatureParams(0.5)),)


def test_sampling_at_temperature_zero() -> None:
    """Sampling by name with temperature 0 is a contradiction, and the message names the way out."""
    error = refused(decoding={"strategy": "sample"}, temperature=0)
    assert (error.param, error.message) == ("temperature", "must be above 0 to sample; 0 is the strategy 'greedy'")


def test_false_is_not_zero() -> None:
    """`temperature: false` equals 0 in Python, and was once read as greedy."""
    assert refused(temperature=False).message == "must be a number"


def test_chain_is_honoured() -> None:
    """A chain is taken in the caller's order, each processor by its bare value or by its named parameters."""
    params = read(
        decoding={
            "strategy": "sample",
            "n": 2,
            "chain": [
                {"min_p": {"share": 0.1}},
                {"penalties": {"repetition": 1.1}},
                {"temperature": 0.8},
                {"logit_bias": {"5": 1}},
                {"top_k": 40},
            ],
        }
    )
    assert params.strategy == Step("sample", SampleParams(n=2))
    assert params.chain == (
        Step("min_p", MinPParams(0.1)),
        Step("penalties", PenaltiesParams(repetition=1.1)),
        Step("temperature", TemperatureParams(0.8)),
        Step("logit_bias", LogitBiasParams({5: 1.0})),
        Step("top_k", TopKParams(40)),
    )


def test_chain_that_spells_out_the_default_is_the_default() -> None:
    """Flat fields and a chain that says the same give equal parameters."""
    flat = read(temperature=0.8, top_k=40, seed=1)
    assert flat == read(decoding={"chain": [{"temperature": 0.8}, {"top_k": 40}]}, seed=1)


def test_empty_chain() -> None:
    """An empty chain asks for the model's own distribution."""
    assert read(decoding={"chain": []}).chain == ()


@pytest.mark.parametrize(
    ("chain", "param", "message"),
    [
        ({"top_k": 40}, "", "must be a list of objects with one processor each"),
        ("top_k", "", "must be a list of objects with one processor each"),
        (None, "", "must be a list of objects with one processor each"),
        (["top_k"], "[0]", 'must be an object with one processor, like {"top_k": 40}'),
        ([{}], "[0]", 'must be an object with one processor, like {"top_k": 40}'),
        ([{"top_k": 4}, {"top_k": 5, "top_p": 0.5}], "[1]", 'must be an object with one processor, like {"top_k": 40}'),
        ([{"topk": 40}], "[0].topk", "unknown processor; did you mean 'top_k'?"),
        ([{"top_k": 4}, {"temperature": 1}, {"top_k": 5}], "[2].top_k", "stands twice in the chain"),
        (
            [{"top_k": 4}, {"min_tokens": 3}],
            "[1].min_tokens",
            "must come before top_k, which could leave nothing but what min_tokens excludes",
        ),
        ([{"temperature": 0.5}, {"top_k": "40"}], "[1].top_k", "must be an integer"),
        ([{"top_k": {"cuont": 40}}], "[0].top_k.cuont", "unknown parameter; did you mean 'count'?"),
        ([{"top_k": {}}], "[0].top_k.count", "is required"),
        ([{"temperature": 3}], "[0].temperature", "must be between 0 and 2"),
        ([{"temperature": {"value": 3}}], "[0].temperature.value", "must be between 0 and 2"),
        ([{"penalties": 1.1}], "[0].penalties", "must be an object with the keys frequency, presence, repetition"),
        ([{"penalties": {"presence": 3}}], "[0].penalties.presence", "must be between -2 and 2"),
        (
            [{"top_k": 4}, {"logit_bias": {"bias": {"1000": 1}}}],
            "[1].logit_bias",
            "token id 1000 is outside the vocabulary of 1000",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_wrong_chains(chain: object, param: str, message: str) -> None:
    """A fault in a chain is named by its path, as the caller wrote it."""
    error = refused(decoding={"chain": chain})
    assert (error.param, error.message) == (f"decoding.chain{param}", message)


@pytest.mark.parametrize("field", FLAT_FIELDS)
def test_chain_and_flat_field_conflict(field: str) -> None:
    """A chain beside a flat field is ambiguous: the error names the flat field, even with a neutral value."""
    neutral = FLAT_FIELDS[field][2]
    error = refused(decoding={"chain": [{"top_k": 40}]}, **{field: neutral[0] if neutral else [[5]]})
    assert error.param == field
    assert error.message == f"{field} and decoding.chain both shape the distribution; give one"


def test_fields_that_go_with_a_chain() -> None:
    """What does not shape the distribution may stand beside a chain."""
    params = read(decoding={"chain": [{"top_k": 40}]}, n=2, seed=5, num_logprobs=1)
    assert params == DecodingParams(Step("sample", SampleParams(n=2)), (Step("top_k", TopKParams(40)),), 5, 1)


@pytest.mark.parametrize(
    ("decoding", "param", "message"),
    [
        ({"strategy": "sampel"}, "decoding.strategy", "unknown strategy; did you mean 'sample'?"),
        ({"strategy": "mcts"}, "decoding.strategy", "unknown strategy; known: " + ", ".join(sorted(STRATEGIES))),
        ({"strategy": ["sample"]}, "decoding.strategy", "unknown strategy; did you mean 'sample'?"),
        ({"strategy": "sample", "width": 4}, "decoding.width", "unknown parameter; known: best_of, n"),
        ({"n": 0}, "decoding.n", "must be at least 1"),
        ({"n": 129}, "decoding.n", "must be at most 128"),
        ({"n": "2"}, "decoding.n", "must be an integer"),
    ],
    ids=repr,
)
def test_wrong_strategies(decoding: dict[str, object], param: str, message: str) -> None:
    """A strategy is named, never inferred, and takes no parameter that it does not know."""
    error = refused(decoding=decoding)
    assert (error.param, error.message) == (param, message)


def test_n_given_twice() -> None:
    """n flat and n in the object contradict each other, even when equal."""
    assert refused(n=2, decoding={"n": 2}).param == "n"


def test_n_limits() -> None:
    """n goes up to the server's limit and no further."""
    assert read(n=128).strategy == Step("sample", SampleParams(n=128))
    assert read_decoding({"n": 4}, vocab_size=9, max_choices=4).strategy.params.n == 4
    with pytest.raises(ParameterError, match="n: must be at most 4"):
        read_decoding({"n": 5}, vocab_size=9, max_choices=4)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32, MAX_SEED, -MAX_SEED - 1])
def test_seeds(seed: int) -> None:
    """Every 64-bit integer is a seed, negative ones too."""
    assert read(seed=seed).seed == seed


def test_missing_seed_is_drawn() -> None:
    """A request without a seed gets a random one, which JavaScript can send back unrounded."""
    seeds = {read().seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**53 for seed in seeds)


@pytest.mark.parametrize("num_logprobs", [0, 1, 20, VOCAB_SIZE])
def test_num_logprobs(num_logprobs: int) -> None:
    """0 asks for the chosen token's log-probability alone, which is not the same as asking for none."""
    assert read(num_logprobs=num_logprobs).num_logprobs == num_logprobs


def test_fields_are_only_read() -> None:
    """The caller's mapping is left as it was."""
    fields: dict[str, object] = {"n": 2, "seed": 1, "temperature": 0.5, "decoding": {"strategy": "sample"}}
    before = json.dumps(fields)
    read_decoding(fields, vocab_size=VOCAB_SIZE)
    assert json.dumps(fields) == before
