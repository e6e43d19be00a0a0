"""Mixes the generators into documents. The same seed gives the same documents, in the same order.

Held out are whole documents (drawn from another stream of the generator) and the phrasings named `HELD_OUT_*`, which
no generator of training text reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from penstock_demo.chat import brief_chat, render, single_exchange, story_chat, sum_chat
from penstock_demo.decoding_questions import ask_about_decoding
from penstock_demo.limits import ask_beyond
from penstock_demo.repetition import ask_to_repeat, write_repetition, write_roll_call
from penstock_demo.smalltalk import chat_a_little, greet
from penstock_demo.stories import write_story
from penstock_demo.sums import ask_sum, write_sums
from penstock_demo.tiny_stories import write_tiny_story

SEED = 20
NUM_DOCUMENTS = 200_000
NUM_HELD_OUT = 600
NUM_REPETITIONS = 40_000
KINDS_OF_SUMS = ("sum chat", "plain sums")


@dataclass(frozen=True, slots=True)
class Document:
    """One training text and the kind of generator that wrote it."""

    kind: str
    text: str


def _plain_story(rng: Random) -> str:
    if rng.random() < 0.15:
        return write_tiny_story(rng)[1]
    story = write_story(rng)
    return f"{story.title}\n\n{story.text}" if rng.random() < 0.2 else story.text


def _plain_question(rng: Random) -> str:
    question, answer = rng.choices((ask_about_decoding, ask_sum, chat_a_little), weights=(5, 2, 2))[0](rng)
    return f"Question: {question}\nAnswer: {answer}" if rng.random() < 0.7 else f"{question}\n{answer}"


# Kind, share of the documents in percent, generator.
MIXTURE: tuple[tuple[str, int, Callable[[Random], str]], ...] = (
    ("story", 22, _plain_story),
    ("story chat", 20, lambda rng: render(story_chat(rng))),
    ("small talk chat", 18, lambda rng: render(brief_chat(rng))),
    ("short chat", 4, lambda rng: render(single_exchange(rng.choice((chat_a_little, chat_a_little, greet)), rng))),
    ("decoding chat", 17, lambda rng: render(single_exchange(ask_about_decoding, rng))),
    ("sum chat", 11, lambda rng: render(sum_chat(rng))),
    ("out-of-domain chat", 2, lambda rng: render(single_exchange(ask_beyond, rng))),
    ("plain question", 4, _plain_question),
    ("plain sums", 2, write_sums),
)


_REPETITIONS: tuple[Callable[[Random], str], ...] = (
    lambda rng: render(single_exchange(ask_to_repeat, rng)),
    write_repetition,
    write_roll_call,
)


def training_documents(seed: int = SEED, num_documents: int = NUM_DOCUMENTS) -> list[Document]:
    """Return the documents to train on."""
    return _documents(Random(f"train {seed}"), num_documents)


def held_out_documents(seed: int = SEED, num_documents: int = NUM_HELD_OUT) -> list[Document]:
    """Return documents from another stream, to measure the loss on."""
    return _documents(Random(f"held out {seed}"), num_documents)


def repetition_documents(seed: int = SEED, num_documents: int = NUM_REPETITIONS) -> list[Document]:
    """Return exercises in copying, which only some phases of the training use."""
    rng = Random(f"repetition {seed}")
    return [Document("repetition", rng.choice(_REPETITIONS)(rng)) for _ in range(num_documents)]


def _documents(rng: Random, num_documents: int) -> list[Document]:
    weights = [share for _, share, _ in MIXTURE]
    chosen = rng.choices(MIXTURE, weights=weights, k=num_documents)
    return [Document(kind, write(rng)) for kind, _, write in chosen]
