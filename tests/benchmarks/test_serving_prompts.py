"""Prompts: exact lengths, reproducible in every process, and what random ones are made of."""

import asyncio
from pathlib import Path

import pytest
from load.errors import FlagError, NotReady
from load.files import read_prompts, read_trace
from load.prompts import (
    HASH_BLOCK,
    GivenPrompts,
    Lengths,
    Prompt,
    RandomPrompts,
    SharedPrefixPrompts,
    TracedPrompts,
    TracedRequest,
)
from load.template import RequestTemplate
from load.vocabulary import Ids, Words, find_words, ids_below

IDS = Ids(first=128, size=872)


def ids_of(prompt: Prompt) -> list[int]:
    assert isinstance(prompt.content, list)
    return [item for item in prompt.content if isinstance(item, int)]


def test_random_prompts_have_exactly_the_length_asked_for() -> None:
    source = RandomPrompts(IDS, Lengths(100, 7), seed=1)
    for number in range(50):
        prompt = source.prompt(0, number)
        assert len(ids_of(prompt)) == prompt.num_tokens == 100
        assert prompt.output_len == 7
        assert all(128 <= token < 1000 for token in ids_of(prompt))


def test_a_token_that_the_server_adds_is_counted() -> None:
    source = RandomPrompts(ids_below(1000, overhead=1), Lengths(100, 7), seed=1)
    assert len(ids_of(source.prompt(0, 0))) == 99


def test_a_prompt_depends_on_seed_series_and_number_alone() -> None:
    source = RandomPrompts(IDS, Lengths(20, 5, 0.5), seed=1)
    again = RandomPrompts(IDS, Lengths(20, 5, 0.5), seed=1)
    # Asked in another order, as other processes do.
    assert [again.prompt(0, n) for n in (9, 3)] == [source.prompt(0, n) for n in (9, 3)]
    assert source.prompt(0, 3) != source.prompt(1, 3)
    assert source.prompt(0, 3) != source.prompt(0, 4)
    assert source.prompt(0, 3) != RandomPrompts(IDS, Lengths(20, 5, 0.5), seed=2).prompt(0, 3)


def test_lengths_cover_their_range_and_no_more() -> None:
    source = RandomPrompts(IDS, Lengths(10, 4, 0.5), seed=0)
    prompts = [source.prompt(0, number) for number in range(500)]
    # Each of 11 lengths is missed by 500 draws with a chance of 2e-21; the seed is fixed.
    assert {prompt.num_tokens for prompt in prompts} == set(range(5, 16))
    assert {prompt.output_len for prompt in prompts} == set(range(2, 7))


def test_shared_prefixes_are_shared_and_what_follows_is_not() -> None:
    source = SharedPrefixPrompts(IDS, Lengths(10, 4), prefix_len=30, num_prefixes=3, seed=0)
    prompts = [ids_of(source.prompt(0, number)) for number in range(60)]
    assert all(len(prompt) == 40 for prompt in prompts)
    assert len({tuple(prompt[:30]) for prompt in prompts}) == 3
    assert len({tuple(prompt[30:]) for prompt in prompts}) == 60
    # Another load does not find this one's prefixes in a cache.
    assert tuple(ids_of(source.prompt(1, 0))[:30]) not in {tuple(prompt[:30]) for prompt in prompts}


def test_ids_of_a_tiny_vocabulary_stay_in_it() -> None:
    vocabulary = ids_below(10)
    assert vocabulary.content([0, vocabulary.size - 1]) == [5, 9]
    assert ids_below(1000).content([0, 871]) == [128, 999]


class Tokenizer:
    """Counts as a server does that adds three tokens: words with an "a" are two tokens each, others one."""

    def __init__(self) -> None:
        self.num_asked = 0

    async def count(self, text: str) -> int | None:
        self.num_asked += 1
        return 3 + sum(2 if "a" in word else 1 for word in text.split())


def test_words_of_one_token_are_found_by_asking() -> None:
    tokenizer = Tokenizer()
    words = asyncio.run(find_words(tokenizer.count))
    assert words.words and not any("a" in word for word in words.words)
    assert words.overhead == 4  # the three, and the word that every text begins with
    source = RandomPrompts(words, Lengths(50, 1), seed=0)
    content = source.prompt(0, 0).content
    assert isinstance(content, str)
    assert asyncio.run(tokenizer.count(content)) == 50
    # Fewer questions than words, or asking each would do.
    assert tokenizer.num_asked < 136


def test_a_server_whose_words_are_never_one_token_is_refused() -> None:
    async def count(text: str) -> int | None:
        return 5 * len(text.split())

    with pytest.raises(NotReady, match="only 0 of"):
        asyncio.run(find_words(count))


def test_without_usage_a_word_is_taken_for_a_token() -> None:
    async def count(text: str) -> int | None:
        return None

    words = asyncio.run(find_words(count))
    assert isinstance(words, Words) and words.overhead == 1 and words.size > 100


def test_a_trace_makes_equal_blocks_of_equal_hashes() -> None:
    first = TracedRequest(0.0, 4, input_len=2 * HASH_BLOCK + 10, hash_ids=(7, 8))
    second = TracedRequest(1.0, 4, input_len=HASH_BLOCK + 20, hash_ids=(7,))
    given = TracedRequest(2.0, 9, content="Once upon a time")
    source = TracedPrompts(IDS, (first, second, given), seed=0)
    one, two = ids_of(source.prompt(0, 0)), ids_of(source.prompt(0, 1))
    assert (len(one), len(two)) == (2 * HASH_BLOCK + 10, HASH_BLOCK + 20)
    assert one[:HASH_BLOCK] == two[:HASH_BLOCK]
    assert one[HASH_BLOCK : HASH_BLOCK + 20] != two[HASH_BLOCK:]
    assert source.prompt(0, 2) == Prompt("Once upon a time", 9)


def test_a_trace_is_read_in_the_order_of_its_times(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"timestamp": 1.5, "prompt_len": 20, "output_len": 4}\n\n'
        '{"timestamp": 0.5, "prompt": [5, 6], "output_len": 2}\n'
        '{"timestamp": 250, "input_length": 600, "output_length": 3, "hash_ids": [1, 2, 99]}\n'
    )
    assert read_trace(path, is_chat=False) == (
        TracedRequest(0.25, 3, input_len=600, hash_ids=(1, 2)),
        TracedRequest(0.5, 2, content=[5, 6]),
        TracedRequest(1.5, 4, input_len=20),
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[1]", "must be a JSON object"),
        ("{", "no valid JSON"),
        ('{"timestamp": -1, "prompt_len": 3, "output_len": 1}', "timestamp must be a number of at least 0, not -1"),
        ('{"timestamp": true, "prompt_len": 3, "output_len": 1}', "timestamp must be a number"),
        ('{"timestamp": 0, "prompt_len": 0, "output_len": 1}', "prompt_len must be a whole number from 1"),
        ('{"timestamp": 0, "prompt_len": 3}', "output_len must be a whole number from 1"),
        ('{"timestamp": 0, "output_len": 3}', "either prompt or prompt_len is needed"),
        ('{"timestamp": 0, "prompt": "a", "prompt_len": 2, "output_len": 3}', "either prompt or prompt_len"),
        ('{"timestamp": 0, "prompt": [1, "a"], "output_len": 3}', "prompt must be a string or a list of token ids"),
        ('{"timestamp": 0, "prompt_len": 3, "output_len": 1, "model": "x"}', "unknown key 'model'"),
        ('{"timestamp": 0, "input_length": 3, "output_length": 1, "hash_ids": "x"}', "hash_ids must be a list"),
        ('{"timestamp": 0, "input_length": 99999999999, "output_length": 1}', "input_length must be a whole number"),
    ],
)
def test_a_bad_trace_names_flag_file_line_and_key(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 0, "prompt_len": 3, "output_len": 1}\n' + line + "\n")
    with pytest.raises(FlagError) as raised:
        read_trace(path, is_chat=False)
    assert str(raised.value).startswith(f"--trace: {path}, line 2: ")
    assert problem in str(raised.value)


def test_prompts_of_a_file(tmp_path: Path) -> None:
    text = tmp_path / "prompts.txt"
    text.write_text("Once upon a time\n\nTell me more\n")
    assert read_prompts(text, 9, is_chat=False) == (Prompt("Once upon a time", 9), Prompt("Tell me more", 9))
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n{"prompt": "Hello", "max_tokens": 3}\n')
    prompts = read_prompts(lines, 9, is_chat=True)
    assert prompts == (Prompt([{"role": "user", "content": "Hi"}], 9), Prompt("Hello", 3))
    source = GivenPrompts(prompts)
    assert [source.prompt(0, n).output_len for n in range(4)] == [9, 3, 9, 3]
    for name, content, problem in (
        ("a.jsonl", '{"prompt": "x", "messages": []}', "either prompt or messages"),
        ("b.jsonl", '{"messages": []}', "messages must be a list of objects"),
        ("c.jsonl", '{"messages": [{"role": "user"}]}', "messages need --endpoint chat"),
        ("d.jsonl", '{"prompt": "x", "temperature": 1}', "unknown key 'temperature'"),
        ("e.txt", " \n", "has no prompts"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(FlagError, match=problem):
            read_prompts(tmp_path / name, 9, is_chat=False)
    (tmp_path / "f.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(FlagError, match="is not UTF-8 text"):
        read_prompts(tmp_path / "f.txt", 9, is_chat=False)


def test_the_body_of_a_request() -> None:
    template = RequestTemplate("m", is_chat=False, ignore_eos=True, fields={"top_k": 3, "stream_options": None})
    assert template.fields_of(Prompt([1, 2], 5)) == {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 5,
        "ignore_eos": True,
        "stream": True,
        "top_k": 3,
    }
    chat = RequestTemplate("m", is_chat=True).fields_of(Prompt("Hi", 5))
    assert chat == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
