"""The checkpoint folder in the repository is complete, small, and loads."""

import re
from pathlib import Path

import pytest
import torch

from penstock_demo.chat import Message, render
from penstock_demo.generation import Checkpoint, ask, load
from penstock_demo.sums import all_sums

FOLDER = Path(__file__).parents[2] / "server" / "penstock_server" / "demo_model"
FILES = {
    "README.md", "config.json", "generation_config.json", "loss.png", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "training.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load(FOLDER)


def test_the_folder_is_complete_and_small() -> None:
    assert {file.name for file in FOLDER.iterdir()} == FILES
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 10_000_000


def test_the_weights_are_finite_and_tied(checkpoint: Checkpoint) -> None:
    model = checkpoint.model
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.num_parameters() < 4_400_000


def test_the_chat_template_renders_as_in_training(checkpoint: Checkpoint) -> None:
    messages = [Message("system", "You are a pirate."), Message("user", "Hello!")]
    rendered = checkpoint.tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert rendered == "<|endoftext|>" + render(messages) + "<|im_start|>assistant\n"


def test_greedy_and_sampling_differ(checkpoint: Checkpoint) -> None:
    question = ["Tell me a story about a fox named Pip."]
    greedy = ask(checkpoint, question, 0.0, 60, seed=0)[0]
    sampled = {ask(checkpoint, question, 0.8, 60, seed)[0] for seed in range(3)}
    assert greedy not in sampled
    assert len(sampled) == 3
    assert "Pip" in greedy
    assert "fox" in greedy


def test_it_answers_what_it_was_made_for(checkpoint: Checkpoint) -> None:
    answers = ask(checkpoint, ["So what exactly is nucleus sampling?", "What is your name?"], 0.0, 60, 0)
    assert "probabilit" in answers[0]
    assert "Penstock" in answers[1]


def test_most_sums_are_right(checkpoint: Checkpoint) -> None:
    sums = all_sums()[::20]
    answers = ask(checkpoint, [f"What is {each.first} {each.operator} {each.second}?" for each in sums], 0.0, 16, 0)
    right = [re.findall(r"\d+", answer)[-1:] == [str(each.result)] for each, answer in zip(sums, answers, strict=True)]
    assert sum(right) > len(sums) / 2
