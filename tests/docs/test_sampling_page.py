"""docs/sampling.md tells of every strategy and processor what the code has, and of nothing else: parameters, ranges,
defaults, flat fields, order, conflicts, and a picture."""

import dataclasses
import importlib.util
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

import pytest
from executed_pages.page import ROOT
from executed_pages.tables import names_in, section, table_rows

from penstock_decoding.errors import ParameterError
from penstock_decoding.flat_fields import DIVERTED, FLAT_FIELDS, SWITCHES
from penstock_decoding.flat_strategy import DETERMINISTIC, PARAMETERS, STRATEGY_FIELDS
from penstock_decoding.params import CUTTERS, EXCLUDERS, read_decoding
from penstock_decoding.processors import DEFAULT_ORDER, PROCESSORS
from penstock_decoding.strategies import STRATEGIES
from penstock_decoding.token_lists import TokenLists
from penstock_server.schemas.structured import STRUCTURED_FIELDS

PAGE = ROOT / "docs" / "sampling.md"
SCRIPT = ROOT / "docs" / "pictures" / "make_sampling_pictures.py"
TABLES: dict[str, Any] = {**PROCESSORS, **STRATEGIES}

# What else a request must have, so that one parameter alone decides whether it is refused.
REQUIRED: dict[str, dict[str, Any]] = {
    "beam": {"width": 4},
    "constrained_beam": {"width": 4, "words": [[5]]},
    "stochastic_beam": {"width": 4, "n": 1},
    "adaptive_temperature": {"target": 3},
    "dry": {"breaker_texts": []},
}
REQUIRED_FOR = {("beam", "diversity_penalty"): {"width": 4, "groups": 2}}
# Numbers whose range is no interval.
NO_INTERVAL = {("beam", "groups")}

NUMBER = r"-?\d+(?:\.\d+)?"
INTERVAL = re.compile(
    rf"(?P<open>above )?(?P<low>{NUMBER}|`\w+`)(?:(?P<to>,? up to | to below | to )(?P<high>{NUMBER}|`\w+`)| and more)"
)


def parameters(name: str) -> list[Any]:
    return list(dataclasses.fields(TABLES[name].Params))


def told(name: str) -> dict[str, list[str]]:
    """The cells beside each parameter in a section's table: flat field, range, default."""
    return {row[0].strip("`"): row[1:] for row in table_rows(section(PAGE, f"### `{name}`"))}


def flat_fields(name: str, parameter: str) -> set[str]:
    """The flat fields that fill a parameter, and those that decide whether they do."""
    if name in PROCESSORS:
        own = {field for field, (step, filled, _) in FLAT_FIELDS.items() if (step, filled) == (name, parameter)}
        diverted = [(field, at) for field, (at, *filled) in DIVERTED.items() if filled == [name, parameter]]
        return own.union(*diverted)
    if (name, parameter) == ("beam", "width"):
        return {"num_beams", "use_beam_search", "best_of", "n"}
    if (name, parameter) == ("sample", "best_of"):
        return {"best_of"}
    return {"n"} if parameter == "n" else {field for field, filled in PARAMETERS.items() if filled == parameter}


@pytest.mark.parametrize("name", TABLES)
def test_every_parameter_is_told_with_its_flat_fields_and_an_example(name: str) -> None:
    rows = told(name)
    assert list(rows) == [field.name for field in parameters(name)]
    for parameter, (flat, *_) in rows.items():
        assert names_in(flat) == flat_fields(name, parameter), parameter
        assert names_in(flat) or flat == "none"
    text = section(PAGE, f"### `{name}`")
    assert "```console" in text, "an example that is run"
    assert name == "greedy" or re.search(r"Papers?:\s|Source:\s|transformers'|no paper", text), "where it is from"


def test_every_flat_field_of_decoding_is_told() -> None:
    names = {field for name in TABLES for flat, *_ in told(name).values() for field in names_in(flat)}
    assert names == {*FLAT_FIELDS, *STRATEGY_FIELDS, "n"}
    assert names_in(section(PAGE, "### `grammar`")) >= set(STRUCTURED_FIELDS)


@pytest.mark.parametrize("name", TABLES)
def test_defaults_are_those_of_the_parameters(name: str) -> None:
    rows = told(name)
    for field in parameters(name):
        *_, cell = rows[field.name]
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if default is dataclasses.MISSING:
            assert cell == "required"
        elif default is None:
            assert cell == "none" or cell.strip("`") in rows
        elif default == () or isinstance(default, TokenLists):
            assert cell == "`[]`"
        else:
            assert json.loads(cell.strip("`")) == default, field.name


def is_refused(name: str, parameter: str, value: Any) -> bool:
    params = REQUIRED_FOR.get((name, parameter), REQUIRED.get(name, {})) | {parameter: value}
    decoding = {"strategy": name, **params} if name in STRATEGIES else {"chain": [{name: params}]}
    try:
        read_decoding({"decoding": decoding}, vocab_size=32)
    except ParameterError as error:
        assert parameter in f"{error.param} {error.message}", f"{value} is refused for another reason: {error}"
        return True
    return False


def intervals() -> list[tuple[str, str]]:
    """All parameters that are numbers."""
    found = []
    for name in TABLES:
        hints = typing.get_type_hints(TABLES[name].Params)
        for field in parameters(name):
            hint = hints[field.name]
            kinds = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
            if kinds & {int, float} and (name, field.name) not in NO_INTERVAL:
                found.append((name, field.name))
    return found


def bound(name: str, parameter: str, cell: str) -> Any:
    """A number, or that of the parameter that stands for it."""
    if not cell.startswith("`"):
        return json.loads(cell)
    other = cell.strip("`")
    given = REQUIRED.get(name, {})
    return given[other] if other in given else {field.name: field.default for field in parameters(name)}[other]


@pytest.mark.parametrize(("name", "parameter"), intervals())
def test_ranges_are_those_that_are_checked(name: str, parameter: str) -> None:
    cell = told(name)[parameter][1]
    match = INTERVAL.match(cell)
    assert match is not None, f"no interval: {cell}"
    is_float = any(f.name == parameter and "float" in str(f.type) for f in parameters(name))
    others = [json.loads(number) for number in re.findall(NUMBER, cell[match.end() :])]

    low = bound(name, parameter, match["low"])
    below = math.nextafter(low, -math.inf) if is_float else low - 1
    assert is_refused(name, parameter, low) == (match["open"] is not None and low not in others)
    assert is_refused(name, parameter, below) == (below not in others)
    if match["high"] is not None:
        high = bound(name, parameter, match["high"])
        above = math.nextafter(high, math.inf) if is_float else high + 1
        assert is_refused(name, parameter, high) == (match["to"] == " to below ")
        assert is_refused(name, parameter, above)
    else:
        assert not is_refused(name, parameter, 10**9)
    assert not any(is_refused(name, parameter, value) for value in others)


@pytest.mark.parametrize(("heading", "known"), [("## Processors", DEFAULT_ORDER), ("## Strategies", tuple(STRATEGIES))])
def test_sections_stand_in_the_order_of_the_tables(heading: str, known: Sequence[str]) -> None:
    assert re.findall(r"^### `(\w+)`$", section(PAGE, heading), re.MULTILINE) == list(known)


def test_the_order_of_the_default_chain_is_told() -> None:
    listed, _ = section(PAGE, "## The order of the default chain").split("A `chain`")
    assert re.findall(r"`(\w+)`", listed) == list(DEFAULT_ORDER)


def test_conflicts_are_those_that_are_checked() -> None:
    by_place, _, by_switch, by_zero, *_ = re.split(r"^- ", section(PAGE, "## Conflicts"), flags=re.MULTILINE)[1:]
    excluders, cutters = by_place.split("come before")
    assert names_in(excluders) == EXCLUDERS
    assert names_in(cutters) == CUTTERS
    pairs = set()
    for clause in re.split(r"[;.:]", by_switch):
        fields, _, switch = clause.partition(" need")
        pairs |= set(itertools.product(names_in(fields), names_in(switch)))
    assert pairs == set(SWITCHES.items())
    assert names_in(by_zero) == {"temperature", *DETERMINISTIC}


def test_every_processor_is_in_a_picture_on_the_page() -> None:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = PAGE.read_text(encoding="utf-8")
    shown = {panel.processor for picture in script.PICTURES for panel in picture.panels}
    assert shown == set(PROCESSORS)
    for picture in script.PICTURES:
        file = SCRIPT.with_name(f"sampling_{picture.name}.png")
        assert file.stat().st_size < 20_000
        linked = re.search(
            rf"After \"{re.escape(picture.prompt)}\".*?!\[([^]]*)\]\(pictures/{file.name}\)", page, re.DOTALL
        )
        assert linked is not None
        assert {panel.processor for panel in picture.panels} <= set(
            re.findall(r"\w+", linked[1].replace("temperatures", "temperature"))
        )
