"""`read_params`: dataclasses from JSON values."""

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from penstock_decoding.errors import ParameterError
from penstock_decoding.read import read_params, unknown_name
from penstock_decoding.token_lists import TokenLists


@dataclass(frozen=True, slots=True)
class Everything:
    """A parameter of every type that is understood."""

    count: int
    share: float = 0.5
    is_on: bool = False
    name: str = "x"
    limit: int | None = None
    mode: Literal["a", "b", 3] = "a"
    ids: tuple[int, ...] = ()
    bias: dict[int, float] | None = None
    either: int | str = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ParameterError("count", "must be at least 0")


@dataclass(frozen=True, slots=True)
class Lists:
    """Token sequences, packed."""

    lists: TokenLists
    more: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two required parameters: no bare value can mean both."""

    left: int
    right: int


def refused(value: object, cls: type = Everything) -> tuple[str, str]:
    """Path and message of the error."""
    with pytest.raises(ParameterError) as caught:
        read_params(cls, value, "at")
    return caught.value.param, caught.value.message


def test_every_type() -> None:
    """Each understood type is read from its JSON form; lists become tuples and string keys token ids."""
    value = {
        "count": 3,
        "share": 1,
        "is_on": True,
        "name": "y",
        "limit": 7,
        "mode": "b",
        "ids": [1, 2],
        "bias": {"5": 1, 6: 2.5},
        "either": "z",
    }
    assert read_params(Everything, value, "at") == Everything(3, 1.0, True, "y", 7, "b", (1, 2), {5: 1.0, 6: 2.5}, "z")


def test_long_lists() -> None:
    """Plain numbers may be many; what has to be read item by item is refused before that takes seconds."""
    many = [1] * 200_000
    assert read_params(Everything, {"count": 1, "ids": many}, "at").ids == tuple(many)
    assert refused({"count": 1, "ids": [*many, 1.5]}) == ("at.ids", "must have at most 100000 items")
    assert refused({"lists": [[1]] * 100_001}, Lists) == ("at.lists", "must have at most 100000 items")
    biases = {str(i): 1 for i in range(100_001)}
    assert refused({"count": 1, "bias": biases}) == ("at.bias", "must have at most 100000 items")


def test_token_lists() -> None:
    """Lists of token ids are a set; what is wrong with them is named by its place, or by the number itself."""
    assert read_params(Lists, {"lists": [[5, 6], [1], [5, 6]]}, "at") == Lists(TokenLists.of([(1,), (5, 6)]))
    assert refused({"lists": [[5], [6, True]]}, Lists) == ("at.lists[1][1]", "must be an integer")
    assert refused({"lists": [[5], 6]}, Lists) == ("at.lists[1]", "must be a list")
    assert refused({"lists": "5"}, Lists) == ("at.lists", "must be a list")
    assert refused({"lists": [[5], [-1]]}, Lists) == ("at.lists", "-1 is not a token id")


def test_defaults_and_none() -> None:
    """What is left out has its default, and null is a value where the type says so."""
    assert read_params(Everything, {"count": 1}, "at") == Everything(1)
    assert read_params(Everything, {"count": 1, "limit": None, "bias": None}, "at") == Everything(1)


def test_bare_value() -> None:
    """A class with one required parameter takes its bare value, whose faults are named by the path alone."""
    assert read_params(Everything, 4, "at") == Everything(4)
    assert refused("4") == ("at", "must be an integer")
    assert refused(-1) == ("at", "must be at least 0")
    assert refused(4, Pair) == ("at", "must be an object with the keys left, right")


@pytest.mark.parametrize(
    ("field", "value", "param", "message"),
    [
        ("count", 1.0, "at.count", "must be an integer"),
        ("count", True, "at.count", "must be an integer"),
        ("count", None, "at.count", "must be an integer"),
        ("count", -1, "at.count", "must be at least 0"),
        ("share", "1", "at.share", "must be a number"),
        ("share", False, "at.share", "must be a number"),
        ("share", math.inf, "at.share", "must be a finite number"),
        ("share", 10**400, "at.share", "must be a finite number"),
        ("is_on", 1, "at.is_on", "must be true or false"),
        ("name", 1, "at.name", "must be a string"),
        ("limit", "7", "at.limit", "must be an integer"),
        ("mode", "c", "at.mode", "must be one of 'a', 'b', 3"),
        ("mode", 3.0, "at.mode", "must be one of 'a', 'b', 3"),
        ("mode", ["a"], "at.mode", "must be one of 'a', 'b', 3"),
        ("ids", 1, "at.ids", "must be a list"),
        ("ids", "12", "at.ids", "must be a list"),
        ("ids", [1, "2"], "at.ids[1]", "must be an integer"),
        ("bias", [], "at.bias", "must be an object"),
        ("bias", {"x": 1}, "at.bias", "the key 'x' is not a token id"),
        ("bias", {"5": "1"}, "at.bias['5']", "must be a number"),
        ("either", 1.5, "at.either", "must be an integer or a string"),
        ("cuont", 1, "at.cuont", "unknown parameter; did you mean 'count'?"),
    ],
)
def test_faults_are_named(field: str, value: object, param: str, message: str) -> None:
    """A fault is named by its path, with what would be right."""
    assert refused({"count": 1, field: value}) == (param, message)


def test_missing_parameter() -> None:
    """The first required parameter left out is named."""
    assert refused({}, Pair) == ("at.left", "is required")
    assert refused({"left": 1}, Pair) == ("at.right", "is required")


def test_annotation_without_a_reader() -> None:
    """A parameter class with a type that cannot be read is our own mistake, and says which."""

    @dataclass(frozen=True)
    class Odd:
        value: complex

    with pytest.raises(AssertionError, match="complex"):
        read_params(Odd, 1, "at")


def test_unknown_name() -> None:
    """The nearest known name, or else all of them in order."""
    assert unknown_name("thing", "aple", ["pear", "apple"]) == "unknown thing; did you mean 'apple'?"
    assert unknown_name("thing", "zzz", ["pear", "apple"]) == "unknown thing; known: apple, pear"
