"""Flat fields that name a strategy: transformers' `num_beams`, vLLM's `use_beam_search`, OpenAI's `best_of`."""

import json
import math
from typing import Any

import pytest

from penstock_decoding.errors import ParameterError
from penstock_decoding.flat_strategy import STRATEGY_FIELDS
from penstock_decoding.params import DecodingParams, Step, read_decoding
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.strategies.beam import BeamParams
from penstock_decoding.strategies.greedy import GreedyParams
from penstock_decoding.strategies.sample import SampleParams

HUGE = 10**400
NO_NUMBERS: tuple[object, ...] = ("1", "", True, False, [], [1], {}, {"value": 1}, math.nan, math.inf, -math.inf)
NO_INTEGERS = (*NO_NUMBERS, 1.5, 2.0)

# Field -> values it refuses whatever stands beside it.
WRONG: dict[str, tuple[object, ...]] = {
    "num_beams": (*NO_INTEGERS, 0, -1, 4097, HUGE),
    "use_beam_search": ("true", 0, 1, 1.0, [], {}),
    "best_of": (*NO_INTEGERS, 0, -1, 4097, HUGE),
    "num_beam_groups": (*NO_INTEGERS, 0, -1, HUGE),
    "diversity_penalty": (*NO_NUMBERS, HUGE, -HUGE, -0.1, 100.1),
    "length_penalty": (*NO_NUMBERS, HUGE, -HUGE, -10.1, 10.1),
    "early_stopping": ("always", "", 0, 1, 1.0, [], {}),
}


def _named(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict) else ""


def read(**fields: object) -> DecodingParams:
    return read_decoding(fields, vocab_size=1000)


def refused(**fields: object) -> ParameterError:
    with pytest.raises(ParameterError) as caught:
        read(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"num_beams": 4}, BeamParams(width=4)),
        ({"num_beams": 4, "n": 3}, BeamParams(width=4, n=3)),
        ({"num_beams": 4, "decoding": {"n": 2}}, BeamParams(width=4, n=2)),
        ({"num_beams": 4, "best_of": 1}, BeamParams(width=4)),
        ({"num_beams": 4, "n": 2, "best_of": 2, "use_beam_search": False}, BeamParams(width=4, n=2)),
        (
            {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5},
            BeamParams(width=6, groups=3, diversity_penalty=0.5),
        ),
        (
            {"num_beams": 2, "length_penalty": 0, "early_stopping": True},
            BeamParams(width=2, length_penalty=0.0, early_stopping=True),
        ),
        ({"num_beams": 2, "early_stopping": "never"}, BeamParams(width=2, early_stopping="never")),
        ({"num_beams": 2, "decoding": {"length_penalty": 2.0}}, BeamParams(width=2, length_penalty=2.0)),
        ({"num_beams": 2, "temperature": 0}, BeamParams(width=2)),
        # vLLM: the width is the number of answers, or best_of.
        ({"use_beam_search": True}, BeamParams(width=1)),
        ({"use_beam_search": True, "n": 3}, BeamParams(width=3, n=3)),
        ({"use_beam_search": True, "n": 3, "best_of": 8}, BeamParams(width=8, n=3)),
        ({"use_beam_search": True, "n": 3, "best_of": 3, "length_penalty": 2}, BeamParams(3, 3, 2.0)),
        ({"use_beam_search": True, "decoding": {"n": 3}}, BeamParams(width=3, n=3)),
        ({"use_beam_search": True, "n": 2, "decoding": {"width": 5}}, BeamParams(width=5, n=2)),
        # A strategy that is named takes the flat fields that it has parameters for.
        (
            {"decoding": {"strategy": "beam", "width": 4}, "n": 2, "length_penalty": 0.5},
            BeamParams(width=4, n=2, length_penalty=0.5),
        ),
    ],
    ids=_named,
)
def test_beam_search(fields: dict[str, object], params: BeamParams) -> None:
    """Each field fills the parameter that its own library's documentation says."""
    asked = read(**fields)
    assert (asked.strategy, asked.chain) == (Step("beam", params), ())


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"best_of": 1}, SampleParams()),
        ({"best_of": 3, "n": 3}, SampleParams(n=3)),
        ({"best_of": 3, "decoding": {"n": 3}}, SampleParams(n=3)),
        ({"best_of": 5, "n": 3}, SampleParams(n=3, best_of=5)),
        ({"best_of": 5}, SampleParams(n=1, best_of=5)),
        ({"best_of": 5, "decoding": {"strategy": "sample"}}, SampleParams(n=1, best_of=5)),
    ],
    ids=_named,
)
def test_best_of(fields: dict[str, object], params: SampleParams) -> None:
    """OpenAI's: so many are drawn and the best n returned; as many as are returned asks for nothing."""
    assert read(**fields).strategy == Step("sample", params)


def test_idle_values_ask_for_nothing() -> None:
    """A client that spells out every default gets plain sampling, or greedy decoding."""
    idle: dict[str, Any] = {
        "num_beams": 1,
        "use_beam_search": False,
        "best_of": 2,
        "n": 2,
        "num_beam_groups": 1,
        "diversity_penalty": 0,
        "length_penalty": 1,
        "early_stopping": False,
    }
    assert set(STRATEGY_FIELDS) < set(idle)
    assert read(**idle).strategy == Step("sample", SampleParams(n=2))
    assert read(**idle, temperature=0).strategy == Step("greedy", GreedyParams(n=2))
    assert read(**idle, decoding={"strategy": "greedy"}).strategy == Step("greedy", GreedyParams(n=2))


def test_the_chain_applies_to_a_search() -> None:
    """What reshapes the distribution goes with any strategy, flat or as a chain; temperature 0 means none."""
    assert read(num_beams=3, temperature=0.5, top_k=5).chain == (
        Step("temperature", TemperatureParams(0.5)),
        Step("top_k", TopKParams(5)),
    )
    chained = read(num_beams=3, decoding={"chain": [{"top_k": 5}]})
    assert (chained.strategy.name, chained.chain) == ("beam", (Step("top_k", TopKParams(5)),))
    named = read(temperature=0, top_k=5, decoding={"strategy": "beam", "width": 2})
    assert named.chain == (Step("top_k", TopKParams(5)),)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"num_beams": 4, "use_beam_search": True}, "use_beam_search", ["use_beam_search", "num_beams"]),
        ({"num_beams": 1, "use_beam_search": True}, "use_beam_search", ["use_beam_search", "num_beams"]),
        ({"num_beams": 4, "decoding": {"strategy": "beam", "width": 4}}, "num_beams", ["decoding.strategy"]),
        ({"num_beams": 4, "decoding": {"strategy": "sample"}}, "num_beams", ["decoding.strategy"]),
        ({"use_beam_search": True, "decoding": {"strategy": "beam"}}, "use_beam_search", ["decoding.strategy"]),
        ({"num_beams": 4, "decoding": {"width": 4}}, "num_beams", ["num_beams", "decoding.width"]),
        ({"num_beams": 4, "best_of": 8}, "best_of", ["best_of", "num_beams"]),
        ({"num_beams": 4, "n": 1, "decoding": {"n": 1}}, "n", ["n", "decoding.n"]),
        (
            {"num_beams": 4, "length_penalty": 2.0, "decoding": {"length_penalty": 2.0}},
            "length_penalty",
            ["length_penalty", "decoding.length_penalty"],
        ),
        ({"num_beams": 4, "n": 5}, "n", ["width"]),
        ({"num_beams": 4, "num_beam_groups": 3}, "num_beam_groups", ["divide"]),
        ({"num_beams": 4, "diversity_penalty": 0.5}, "diversity_penalty", ["groups"]),
        ({"use_beam_search": True, "n": 3, "best_of": 2}, "n", ["width"]),
        ({"length_penalty": 0.5}, "length_penalty", ["'sample'"]),
        ({"early_stopping": True}, "early_stopping", ["'sample'"]),
        ({"num_beam_groups": 2}, "num_beam_groups", ["'sample'"]),
        ({"diversity_penalty": 0.5, "temperature": 0}, "diversity_penalty", ["'greedy'"]),
        ({"best_of": 3, "temperature": 0}, "best_of", ["'greedy'"]),
        ({"best_of": 8, "decoding": {"strategy": "beam", "width": 8}}, "best_of", ["'beam'"]),
        ({"best_of": 2, "n": 3}, "best_of", ["n"]),
        ({"best_of": 129}, "best_of", ["128"]),
        ({"best_of": 3, "decoding": {"best_of": 3}}, "best_of", ["best_of", "decoding.best_of"]),
        ({"decoding": {"best_of": 129}}, "decoding.best_of", ["128"]),
        ({"num_beams": 200, "n": 129}, "n", ["128"]),
    ],
    ids=_named,
)
def test_contradictions(fields: dict[str, object], param: str, words: list[str]) -> None:
    """Nothing that is asked for is dropped: what cannot hold together is refused, with both names where two clash."""
    error = refused(**fields)
    assert error.param == param
    assert all(word in error.message for word in words), error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WRONG.items() for value in values],
    ids=lambda value: repr(value)[:24],
)
@pytest.mark.parametrize("beside", [{}, {"num_beams": 4}, {"use_beam_search": True, "n": 4}], ids=json.dumps)
def test_wrong_values(field: str, value: object, beside: dict[str, object]) -> None:
    """A wrong value is refused by the name of its field, with or without a beam search beside it."""
    if field in beside or field == "num_beams":
        beside = {}
    assert refused(**{**beside, field: value}).param == field


def test_every_field_is_checked() -> None:
    assert set(WRONG) == set(STRATEGY_FIELDS)
