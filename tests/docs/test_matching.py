"""What `...` stands for, and what is compared on machines that compute other bits."""

import pytest
from executed_pages.loosely import lines_match_loosely, loose_chat, may_hold_generated_text
from executed_pages.matching import difference, lines_match, output_lines, with_wildcards_of


@pytest.mark.parametrize(
    ("shown", "seen", "fits"),
    [
        ([], [], True),
        (["a"], ["a"], True),
        (["a"], ["b"], False),
        (["a", "b"], ["a"], False),
        (["a"], ["a", "b"], False),
        (["..."], [], True),
        (["..."], ["a", "b"], True),
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "...", "d"], ["a", "d"], True),
        (["a", "...", "d"], ["a", "b"], False),
        (["...", "b", "...", "b"], ["b", "a", "b"], True),
        (["...", "b", "...", "b"], ["a", "b"], False),
        (["id ... end"], ["id 17 end"], True),
        (["id ... end"], ["id end"], False),
        (["id ...end"], ["id end"], True),
        (["a...b...c"], ["a1b2c"], True),
        (["a...b...c"], ["a12c"], False),
        (["ab...ba"], ["aba"], False),  # the two ends must not share a character
        (["a."], ["ab"], False),  # not a regular expression
        (["trailing  "], ["trailing"], True),
    ],
)
def test_dots_stand_for_any_lines_or_any_characters(shown: list[str], seen: list[str], fits: bool) -> None:
    assert lines_match(shown, seen) is fits


def test_many_dots_do_not_take_forever() -> None:
    assert not lines_match(["a", "..."] * 200 + ["end"], ["a"] * 2000)
    assert not lines_match(["a..." * 200 + "end"], ["a" * 20000])


def test_blank_lines_at_the_end_do_not_count() -> None:
    assert output_lines("a  \n\nb\n\n\n") == ("a", "", "b")


def test_a_difference_shows_only_what_differs() -> None:
    told = difference(["same", "id ...", "old"], ["same", "id 5", "new"])
    assert told.splitlines() == ["  same", "  id ...", "- old", "+ new"]


def test_an_update_keeps_dots_that_still_fit() -> None:
    assert with_wildcards_of(["id ... end", "...", "x"], ["id 5 end", "other"]) == ["id ... end", "other"]


REPLY = '{"id":"cmpl-...","seed":1,"choices":[{"text":" a fox","finish_reason":null}],"usage":...}'


@pytest.mark.parametrize(
    ("seen", "fits"),
    [
        ('{"id":"cmpl-1","seed":2,"choices":[{"text":" the \\"owl\\"","finish_reason":null}],"usage":{"a":1}}', True),
        ('{"id":"cmpl-1","seed":"2","choices":[{"text":" a","finish_reason":null}],"usage":{"a":1}}', False),
        ('{"id":"cmpl-1","choices":[{"text":" a","finish_reason":null}],"usage":{"a":1}}', False),
        ('{"id":"cmpl-1","seed":2,"choices":[],"usage":{}}', False),
        ("Internal Server Error", False),
        ("", False),
    ],
)
def test_on_another_machine_json_keeps_its_keys_and_types(seen: str, fits: bool) -> None:
    assert lines_match_loosely([REPLY], [seen] if seen else []) is fits


def test_on_another_machine_text_may_have_other_words_but_must_be_there() -> None:
    assert lines_match_loosely(["Once upon a time"], ["It was", "night"])
    assert not lines_match_loosely(["Once upon a time"], [])
    assert not lines_match_loosely([], ["Traceback"])


def test_on_another_machine_a_stream_may_have_other_events_of_the_same_shapes() -> None:
    shown = ['data: {"text":"a","end":null}', "", "...", 'data: {"text":"b","end":"length"}', "", "data: [DONE]"]
    seen = ['data: {"text":"c","end":null}', "", 'data: {"text":"d","end":"stop"}', "", "data: [DONE]"]
    assert lines_match_loosely(shown, seen)
    assert not lines_match_loosely(shown, [line for line in seen if "DONE" not in line])


@pytest.mark.parametrize(
    ("command", "shown", "may"),
    [
        ("curl -s localhost:8000/v1/completions -d '{}'", ["{}"], True),
        ("python examples/completion.py", ["text"], True),
        ('penstock chat "hello"', ["text"], True),
        ("penstock serve --help", ["usage"], False),
        ("curl -s localhost:8000/v1/models", ["{}"], False),
        ("curl -s localhost:8000/v1/completions -d '{}'", ['{"error":{"message":"no"}}'], False),
    ],
)
def test_what_cannot_hold_generated_text_is_exact_everywhere(command: str, shown: list[str], may: bool) -> None:
    assert may_hold_generated_text(command, shown) is may


def test_on_another_machine_replies_in_a_chat_may_have_other_words() -> None:
    text = "> /set temperature 0\ntemperature is 0\n> Hello\nHi!\n\nYes?\n4 tokens · 5.1 tokens/s\n> /quit\nbye\n"
    loose = "> /set temperature 0\ntemperature is 0\n> Hello\n...\n... tokens ...\n> /quit\nbye\n"
    assert loose_chat(text) == loose
