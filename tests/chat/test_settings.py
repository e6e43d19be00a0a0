"""A setting typed, read and shown again."""

import pytest

from penstock_chat.errors import InputError
from penstock_chat.settings import read_assignment, read_assignments, read_value, written


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("temperature 0.2", ("temperature", 0.2)),
        ("temperature=0.2", ("temperature", 0.2)),
        ("max_tokens  100 ", ("max_tokens", 100)),
        ('stop ["x", "y z"]', ("stop", ["x", "y z"])),
        ("stop THE END", ("stop", "THE END")),
        ('stop "1"', ("stop", "1")),
        ("ignore_eos true", ("ignore_eos", True)),
        ("seed null", ("seed", None)),
        ("user NaN", ("user", "NaN")),
        ("user 1e999", ("user", "1e999")),
        ("user " + "9" * 5000, ("user", "9" * 5000)),  # more digits than Python converts
        (
            'decoding {"strategy": "sample", "chain": [{"temperature": 0.8}]}',
            ("decoding", {"strategy": "sample", "chain": [{"temperature": 0.8}]}),
        ),
        ('decoding {"strategy":\n "greedy"}', ("decoding", {"strategy": "greedy"})),
    ],
)
def test_one(text: str, setting: tuple[str, object]) -> None:
    assert read_assignment(text) == setting


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "NAME VALUE"),
        ("temperature", "NAME VALUE"),
        ("temp-erature 1", "NAME VALUE"),
        ('decoding {"strategy": }', "decoding: this is not valid JSON: Expecting value at character 14"),
        ("stop [1, 2", "stop: this is not valid JSON"),
        ('stop ["x"] y', "'y' stands after the end"),
        ("stop [1e999]", "stop: a number in this is too large"),
        ("stop [NaN]", "stop: this is not valid JSON"),
        ("stop " + "[" * 100_000, "stop: this is not valid JSON"),
        ("model x", "/model NAME"),
        ("messages []", "messages is not a setting"),
        ("n 2", "/compare"),
        ("stream false", "streamed"),
    ],
)
def test_refused(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_assignment(text)
    assert told in caught.value.message


def test_several() -> None:
    text = ' temperature=0.2  stop=["a b", "|"] decoding = {"strategy": "greedy"} user=me '
    assert read_assignments(text) == {
        "temperature": 0.2,
        "stop": ["a b", "|"],
        "decoding": {"strategy": "greedy"},
        "user": "me",
    }
    assert read_assignments("") == {}
    assert read_assignments('model=x system="be short"', also=("model", "system")) == {
        "model": "x",
        "system": "be short",
    }


@pytest.mark.parametrize("text", ["temperature 0.2", "0.2", "temperature=", "model=x", 'a="b"c=1', 'a="b', "=1"])
def test_several_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_assignments(text)


@pytest.mark.parametrize(
    "value", [1, 0.5, True, None, "x y", "1", "true", "", " ", '"', "[", {"a": [1, "é"]}, [], "NaN"]
)
def test_written_is_read_as_the_same(value: object) -> None:
    assert read_value(written(value), "it") == value
    assert type(read_value(written(value), "it")) is type(value)
