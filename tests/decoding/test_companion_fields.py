"""Flat fields that mean something only beside another one: mirostat's and the dynamic temperature's."""

import pytest

from penstock_decoding.errors import ParameterError
from penstock_decoding.flat_fields import DIVERTED, FLAT_FIELDS, SWITCHES
from penstock_decoding.params import Step, read_decoding
from penstock_decoding.processors.dynamic_temperature import DynamicTemperatureParams
from penstock_decoding.processors.mirostat import MirostatParams
from penstock_decoding.processors.temperature import TemperatureParams
from penstock_decoding.processors.top_k import TopKParams
from penstock_decoding.strategies.greedy import GreedyParams


def chain_of(**fields: object) -> tuple[Step, ...]:
    return read_decoding(fields, vocab_size=1000).chain


def refused(**fields: object) -> ParameterError:
    with pytest.raises(ParameterError) as caught:
        read_decoding(fields, vocab_size=1000)
    return caught.value


def test_tables_name_flat_fields() -> None:
    """Companions and their switches are flat fields of one processor, whose switch is a field of its own."""
    for field, switch in SWITCHES.items():
        assert FLAT_FIELDS[field][0] == FLAT_FIELDS[switch][0]
        assert switch not in SWITCHES
        assert FLAT_FIELDS[switch][2], "a switch has a value that means off"
    for field, (other, processor, _) in DIVERTED.items():
        assert FLAT_FIELDS[other][0] == processor != FLAT_FIELDS[field][0]


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"mirostat": 2}, MirostatParams(2, 5.0, 0.1)),
        ({"mirostat": 1, "mirostat_tau": 3}, MirostatParams(1, 3.0, 0.1)),
        ({"mirostat_eta": 0.2, "mirostat_tau": 3.5, "mirostat": 2}, MirostatParams(2, 3.5, 0.2)),
        ({"mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1}, MirostatParams(2, 5.0, 0.1)),
    ],
)
def test_mirostat(fields: dict[str, object], params: MirostatParams) -> None:
    """llama.cpp's three fields are one step, in any order."""
    assert chain_of(**fields) == (Step("mirostat", params),)


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"dynatemp_range": 0.5}, Step("dynamic_temperature", DynamicTemperatureParams(1.0, 0.5, 1.0))),
        (
            {"temperature": 0.8, "dynatemp_exponent": 2, "dynatemp_range": 0.5},
            Step("dynamic_temperature", DynamicTemperatureParams(0.8, 0.5, 2.0)),
        ),
        ({"temperature": 0.8, "dynatemp_range": 0}, Step("temperature", TemperatureParams(0.8))),
        (
            {"temperature": 0.8, "dynatemp_range": 0.0, "dynatemp_exponent": 3},
            Step("temperature", TemperatureParams(0.8)),
        ),
    ],
)
def test_dynamic_temperature(fields: dict[str, object], step: Step) -> None:
    """With a range the temperature is its middle, and no step of its own."""
    assert chain_of(**fields) == (step,)


def test_dynamic_temperature_with_temperature_zero() -> None:
    """Temperature 0 is greedy, range or not."""
    params = read_decoding({"temperature": 0, "dynatemp_range": 0.5, "top_k": 5}, vocab_size=1000)
    assert params.strategy == Step("greedy", GreedyParams())
    assert params.chain[-1] == Step("top_k", TopKParams(5))


@pytest.mark.parametrize("field", ["mirostat_tau", "mirostat_eta", "dynatemp_exponent"])
def test_companions_of_a_switch_that_is_off(field: str) -> None:
    """Clients send all of a sampler's fields with the switch off: a companion then asks for nothing, but is checked."""
    switch = SWITCHES[field]
    for off in FLAT_FIELDS[switch][2]:
        assert chain_of(**{switch: off, field: 0.25}) == ()
        assert refused(**{switch: off, field: "x"}).param == field


@pytest.mark.parametrize("field", ["mirostat_tau", "mirostat_eta", "dynatemp_exponent"])
def test_companions_without_their_switch(field: str) -> None:
    """A companion alone would change nothing: it is refused by name, unless it says what holds anyway."""
    error = refused(**{field: 0.25})
    assert (error.param, error.message) == (field, f"asks for nothing without {SWITCHES[field]}")
    assert chain_of(**{field: FLAT_FIELDS[field][2][0]}) == ()


@pytest.mark.parametrize(
    ("field", "processor", "values"),
    [
        ("typical_p", "typical", (5e-324, 0.999)),
        ("epsilon_cutoff", "epsilon", (5e-324, 0.999)),
        ("eta_cutoff", "eta", (5e-324, 0.999)),
        ("top_h", "top_h", (5e-324, 0.999)),
        ("top_n_sigma", "top_n_sigma", (5e-324, 100)),
        ("dynatemp_range", "dynamic_temperature", (5e-324, 5)),
        ("mirostat", "mirostat", (1, 2)),
    ],
)
def test_one_field_one_step(field: str, processor: str, values: tuple[object, ...]) -> None:
    """Each truncation's field asks for its processor, at the ends of its range too."""
    for value in values:
        assert [step.name for step in chain_of(**{field: value})] == [processor]


@pytest.mark.parametrize(
    "fields",
    [
        {"typical_p": 1},
        {"epsilon_cutoff": 0},
        {"eta_cutoff": 0.0},
        {"top_h": 1.0},
        {"top_n_sigma": -1},
        {"top_n_sigma": 0},
        {"mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1},
        {"dynatemp_range": 0, "dynatemp_exponent": 1},
    ],
)
def test_idle_values_add_no_step(fields: dict[str, object]) -> None:
    """A client that spells out the defaults pays for no processor."""
    assert chain_of(**fields) == ()


def test_order() -> None:
    """Truncations stand in transformers' order, top-n-sigma before all since it measures the whole vocabulary, and
    mirostat after all since it measures what is drawn from."""
    chain = chain_of(
        mirostat=2,
        eta_cutoff=1e-3,
        epsilon_cutoff=1e-3,
        typical_p=0.9,
        min_p=0.01,
        top_p=0.9,
        top_k=40,
        top_h=0.5,
        top_n_sigma=2,
        temperature=0.8,
    )
    assert [step.name for step in chain] == [
        *("temperature", "top_n_sigma", "top_h", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "mirostat")
    ]
