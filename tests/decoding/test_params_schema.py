"""The schemas of parameters: what they allow is what is read."""

import json
from typing import Any

import pytest
from json_schemas import edges, faults

from penstock_decoding.errors import ParameterError
from penstock_decoding.params import read_decoding
from penstock_decoding.params_schema import params_schema
from penstock_decoding.processors import PROCESSORS
from penstock_decoding.processors.logit_bias import LogitBiasParams
from penstock_decoding.processors.penalties import PenaltiesParams
from penstock_decoding.read import read_params
from penstock_decoding.strategies import STRATEGIES, stochastic_beam
from penstock_decoding.strategies.beam import MAX_WIDTH, BeamParams

EVERY: dict[str, Any] = {**PROCESSORS, **STRATEGIES}


@pytest.mark.parametrize("name", EVERY)
def test_every_class_has_one(name: str) -> None:
    cls = EVERY[name].Params
    schema = json.loads(json.dumps(params_schema(cls)))
    assert schema["type"] == "object" and schema["additionalProperties"] is False and schema["description"]
    assert schema["properties"].keys() == set(cls.__dataclass_fields__)
    for required in schema["required"]:
        assert "default" not in schema["properties"][required]
    if not schema["required"]:
        defaults = {key: each["default"] for key, each in schema["properties"].items() if "default" in each}
        try:
            assert read_params(cls, defaults, "x") == cls()
        except ParameterError:  # some need one of several fields
            with pytest.raises(ParameterError):
                cls()


def test_types_and_defaults() -> None:
    assert params_schema(PenaltiesParams)["properties"] == {
        "repetition": {"type": "number", "minimum": 0.01, "maximum": 10, "default": 1.0},
        "presence": {"type": "number", "minimum": -2, "maximum": 2, "default": 0.0},
        "frequency": {"type": "number", "minimum": -2, "maximum": 2, "default": 0.0},
    }
    assert params_schema(LogitBiasParams)["properties"]["bias"] == {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    }
    beam = params_schema(BeamParams)
    assert beam["properties"]["width"]["type"] == "integer"
    assert "enum" in json.dumps(beam["properties"]["early_stopping"])


# What a parameter's edges need beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "adaptive_temperature": {"target": 1, "lowest": 0.01, "highest": 10},
    "allowed_sequences.texts": {"texts": ["a"]},
    "beam": {"width": MAX_WIDTH},
    "beam.diversity_penalty": {"width": 2, "groups": 2},
    "constrained_beam": {"width": MAX_WIDTH, "words": [[1]]},
    "constrained_beam.any_of": {"width": 1},
    "constrained_beam.texts": {"width": 1},
    "constrained_beam.words": {"width": 1},
    "stochastic_beam": {"width": stochastic_beam.MAX_WIDTH},
}
# One list may be empty if another is not, and groups divide the width: no schema of one parameter tells that.
TOGETHER = {
    "beam.groups",
    "allowed_sequences.sequences",
    "constrained_beam.words",
    "constrained_beam.any_of",
    "constrained_beam.texts",
}
PARAMETERS = [
    f"{name}.{parameter}" for name, each in EVERY.items() for parameter in params_schema(each.Params)["properties"]
]


class Letters:
    """A tokenizer in which every text is one token."""

    def at_start(self, text: str) -> list[int]:
        return [1]

    def within(self, text: str) -> list[int]:
        return [1]

    def holding(self, text: str) -> list[int]:
        return [1]


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_value_is_read_on_the_right_side_of_each_bound_only(parameter: str) -> None:
    name, _, field = parameter.partition(".")
    schema = params_schema(EVERY[name].Params)["properties"][field]
    path = "decoding" if name in STRATEGIES else f"decoding.chain[0].{name}"
    for value in edges(schema):
        if parameter in TOGETHER and (not value or isinstance(value, int)):
            continue
        params = BESIDE.get(parameter, BESIDE.get(name, {})) | {field: value}
        asked = {"strategy": name, **params} if name in STRATEGIES else {"chain": [{name: params}]}
        try:
            read_decoding({"decoding": asked}, vocab_size=1000, max_choices=10**6, encoder=Letters())
        except ParameterError as error:
            assert faults(value, schema, {}), f"{value!r:.80} is refused: {error}"
            assert error.param.startswith(path)
        else:
            assert not faults(value, schema, {}), f"{value!r:.80} is read"


def test_every_number_has_bounds() -> None:
    """Without this the test above could pass with nothing to try."""
    for name, each in EVERY.items():
        for field, schema in params_schema(each.Params)["properties"].items():
            is_number = {"integer", "number"} & {*schema.get("type", [])} or schema.get("type") in ("integer", "number")
            assert not is_number or list(edges(schema)), f"{name}.{field}"


def test_an_annotation_without_a_reader_has_no_schema() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Odd:
        """Odd."""

        value: bytes

    with pytest.raises(TypeError, match="no schema"):
        params_schema(Odd)
