"""The scripts in examples/ run as a user runs them, against a real server, and say what the API says."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_server import WAIT_SECONDS, Served, serving

from penstock_server.serve import DEMO_MODEL
from penstock_server.text.codec import TextCodec

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    plugins = (EXAMPLES / "plugin_processor.py", EXAMPLES / "plugin_strategy.py")
    with serving("demo", *(argument for plugin in plugins for argument in ("--plugin", str(plugin)))) as served:
        yield served


def run(served: Served, script: str, *arguments: str) -> str:
    """What the script prints; it must end well and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        env=os.environ | {"OPENAI_BASE_URL": f"{served.url}/v1"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def ask(served: Served, route: str, **fields: object) -> dict[str, Any]:
    reply = httpx.post(f"{served.url}/v1/{route}", json={"model": "demo", **fields}, timeout=WAIT_SECONDS)
    reply.raise_for_status()
    answer: dict[str, Any] = reply.json()
    return answer


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()
    scripts = [script.name for script in EXAMPLES.glob("*.py")]
    assert len(scripts) == 7
    assert [script for script in scripts if f'"{script}"' not in source] == []


def test_completion_prints_the_prompt_and_its_continuation(served: Served) -> None:
    fields = {"max_tokens": 60, "temperature": 0.8, "seed": 1, "min_p": 0.05}
    text = ask(served, "completions", prompt="The old king", **fields)["choices"][0]["text"]
    assert run(served, "completion.py", "The old king") == f"The old king{text}\n\n60 tokens, ended by length\n"


def test_streaming_chat_prints_what_the_unstreamed_answer_says(served: Served) -> None:
    messages = [{"role": "user", "content": "Tell me a story about a hen."}]
    reply = ask(served, "chat/completions", messages=messages, max_tokens=120, temperature=0.7, seed=3)
    counts = f"{reply['usage']['prompt_tokens']} tokens read, {reply['usage']['completion_tokens']} written"
    printed = run(served, "streaming_chat.py", "Tell me a story about a hen.")
    assert printed == f"{reply['choices'][0]['message']['content']}\n\n{counts}\n"


def test_samples_are_replayed_from_the_seed_that_was_stated(served: Served) -> None:
    printed = run(served, "samples_with_replay.py")
    assert "the same four again: True\ntwo of that seed are the first two: True\n" in printed
    seed = re.search(r"^seed (\d+)$", printed, re.MULTILINE)
    assert seed
    prompt = "One day, the little fox"
    reply = ask(served, "completions", prompt=prompt, max_tokens=20, temperature=0.8, n=4, seed=int(seed[1]))
    for choice in reply["choices"]:
        assert f"- {prompt}{choice['text']}\n" in printed


def test_log_probabilities_are_those_of_the_reply(served: Served) -> None:
    printed = run(served, "log_probabilities.py")
    reply = ask(
        served,
        "chat/completions",
        messages=[{"role": "user", "content": "What is 2 plus 3?"}],
        max_tokens=20,
        temperature=0,
        logprobs=True,
    )
    tokens = reply["choices"][0]["logprobs"]["content"]
    shown = re.findall(r"^('.*?') +([\d.]+)%", printed, re.MULTILINE)
    assert shown == [(repr(token["token"]), f"{math.exp(token['logprob']):.1%}"[:-1]) for token in tokens]
    perplexity = math.exp(-sum(token["logprob"] for token in tokens) / len(tokens))
    assert f"perplexity {perplexity:.3f} over {len(tokens)} tokens" in printed


def test_offline_batch_answers_as_the_server_does(served: Served, tmp_path: Path) -> None:
    """Two of three prompts ask for draws, so this holds only if seeds and strategies reach the same engine."""
    file = tmp_path / "prompts.txt"
    file.write_text("Once upon a time\nThe king had a\nThe moon\n")
    lines = [json.loads(line) for line in run(served, "offline_batch.py", str(file)).splitlines()]
    chain = [{"penalties": {"repetition": 1.1}}, {"min_p": 0.1}]
    asked: list[dict[str, object]] = [
        {"prompt": "Once upon a time", "decoding": {"strategy": "greedy"}},
        {"prompt": "The king had a", "temperature": 0.8, "top_p": 0.9, "seed": 1, "n": 2},
        {"prompt": "The moon", "decoding": {"strategy": "sample", "chain": chain}, "seed": 2},
    ]
    texts = [
        (fields["prompt"], choice["text"], choice["finish_reason"])
        for fields in asked
        for choice in ask(served, "completions", max_tokens=24, **fields)["choices"]
    ]
    assert [(line["prompt"], line["text"], line["finish_reason"]) for line in lines] == texts
    assert [line["seed"] for line in lines][1:] == [1, 1, 2]


def z_score(served: Served, text: str, key: int) -> float:
    ids = TextCodec.load(DEMO_MODEL).encode(text)
    return float(run(served, "plugin_processor.py", str(key), *map(str, ids)))


def test_watermark_is_found_by_its_key_alone(served: Served) -> None:
    """Seeds are fixed. Of unmarked texts none should come near 4 by chance: that is one in 30 000."""
    fields: dict[str, object] = {"prompt": "Once upon a time", "max_tokens": 150, "seed": 11, "ignore_eos": True}
    marked = ask(served, "completions", decoding={"chain": [{"watermark": {"key": 42, "delta": 4.0}}]}, **fields)
    plain = ask(served, "completions", **fields)
    text = marked["choices"][0]["text"]
    assert z_score(served, text, key=42) > 5
    assert abs(z_score(served, text, key=43)) < 4
    assert abs(z_score(served, plain["choices"][0]["text"], key=42)) < 4
    again = ask(served, "completions", decoding={"chain": [{"watermark": {"key": 42, "delta": 4.0}}]}, **fields)
    assert again["choices"][0]["text"] == text


def test_openings_are_distinct(served: Served) -> None:
    """Even where the model is all but sure how to begin, so that independent samples all begin alike."""
    fields: dict[str, object] = {"prompt": "Once upon a", "max_tokens": 6, "n": 6, "seed": 2, "ignore_eos": True}

    def openings(**more: object) -> list[str]:
        choices = ask(served, "completions", logprobs=0, **fields, **more)["choices"]
        assert [choice["index"] for choice in choices] == list(range(6))
        return [choice["logprobs"]["tokens"][0] for choice in choices]

    assert len(set(openings())) < 6
    distinct = openings(decoding={"strategy": "distinct_openings"})
    assert len(set(distinct)) == 6
    assert openings(decoding={"strategy": "distinct_openings"}) == distinct


def test_openings_end_at_the_tokens_that_are_left(served: Served) -> None:
    decoding = {"strategy": "distinct_openings", "chain": [{"top_k": 3}]}
    reply = ask(served, "completions", prompt="Once upon a", max_tokens=4, n=6, seed=2, decoding=decoding)
    assert len(reply["choices"]) == 3
