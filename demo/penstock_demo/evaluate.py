"""Measures a checkpoint: held-out loss, sums, held-out phrasings, stories that do what was asked, and variety."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random

from penstock_demo.chat import Message
from penstock_demo.corpus import held_out_documents
from penstock_demo.decoding_questions import HELD_OUT_WHAT, Topic, load_topics
from penstock_demo.generation import Checkpoint, ask, chat, complete
from penstock_demo.grammar import capitalise, expand
from penstock_demo.packing import pack
from penstock_demo.story_requests import held_out_request
from penstock_demo.sums import HELD_OUT_PHRASINGS, PHRASINGS, all_sums, sum_slots
from penstock_demo.train import held_out_loss
from penstock_demo.words import ANIMALS, GIRLS

UNKNOWN_NAMES = ("Quill", "Bramble", "Zelda", "Fergus", "Tinker", "Mabel", "Rollo", "Juniper", "Percy", "Dottie")


@dataclass(frozen=True, slots=True)
class Figures:
    """All measurements. Shares lie between 0 and 1; the loss is in nats per token."""

    loss: float
    sums_known_phrasing: float
    sums_held_out_phrasing: float
    questions_greedy: float
    questions_sampled: float
    questions_verbatim: float
    stories_known_name: float
    stories_unknown_name: float
    distinct_2: float
    distinct_stories: float
    greedy_overlap: float
    sampled_overlap: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt, the settings, and what the checkpoint wrote."""

    prompt: str
    settings: str
    text: str


def measure(checkpoint: Checkpoint, seed: int) -> Figures:
    """Return all figures; takes a few minutes on one core."""
    documents = [document.text for document in held_out_documents()]
    encoded = checkpoint.tokenizer(documents, add_special_tokens=False)["input_ids"]
    stories = complete(checkpoint, ["Once upon a time,"] * 50, 0.8, 300, seed)
    greedy_overlap, sampled_overlap = _overlaps(checkpoint, seed)
    greedy, verbatim = _questions(checkpoint, 0.0, seed)
    return Figures(
        loss=held_out_loss(checkpoint.model, pack(encoded, 512, 0)),
        sums_known_phrasing=_sums(checkpoint, PHRASINGS, seed),
        sums_held_out_phrasing=_sums(checkpoint, HELD_OUT_PHRASINGS, seed),
        questions_greedy=greedy,
        questions_sampled=_questions(checkpoint, 0.8, seed)[0],
        questions_verbatim=verbatim,
        stories_known_name=_stories(checkpoint, GIRLS, seed),
        stories_unknown_name=_stories(checkpoint, UNKNOWN_NAMES, seed),
        distinct_2=distinct_n(stories, 2),
        distinct_stories=len(set(stories)) / len(stories),
        greedy_overlap=greedy_overlap,
        sampled_overlap=sampled_overlap,
    )


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Return the number of different word n-grams over the number of all (Li et al. 2016, arXiv:1510.03055)."""
    grams = [gram for text in texts for gram in zip(*(text.split()[start:] for start in range(n)), strict=False)]
    return len(set(grams)) / len(grams)


def nearest_topic(answer: str) -> Topic:
    """Return the topic one of whose sentences has the most words in common with `answer`."""
    return max(load_topics(), key=lambda topic: max(_likeness(answer, text) for text in _sentences(topic)))


def collect_samples(checkpoint: Checkpoint, seed: int) -> list[Sample]:
    """Return samples for the card: each prompt greedily and at temperature 0.8."""
    story = "Tell me a story about a fox named Pip."
    samples = []
    for settings, temperature in (("greedy", 0.0), ("temperature 0.8", 0.8)):
        start = "Once upon a time,"
        samples.append(Sample(start, settings, complete(checkpoint, [start], temperature, 300, seed)[0]))
        for question in (
            story,
            "What is nucleus sampling?",
            "Would you mind explaining the KV cache?",
            "What is 7 + 12?",
        ):
            samples.append(Sample(question, settings, ask(checkpoint, [question], temperature, 300, seed)[0]))
        turns = [Message("user", "Hello, my name is Juniper."), Message("assistant", "Nice to meet you, Juniper!"),
                 Message("user", "What is my name?")]  # fmt: skip
        prompt = " / ".join(turn.content for turn in turns)
        samples.append(Sample(prompt, settings, chat(checkpoint, [turns], temperature, 60, seed)[0]))
    return samples


def _sums(checkpoint: Checkpoint, phrasings: Mapping[str, tuple[str, ...]], seed: int) -> float:
    rng = Random(seed)
    sums = all_sums()
    questions = [expand(rng.choice(phrasings[each.operator]), rng, sum_slots(each)) for each in sums]
    answers = ask(checkpoint, questions, 0.0, 20, seed)
    right = 0
    for each, answer in zip(sums, answers, strict=True):
        numbers = re.findall(r"\d+", answer)
        right += bool(numbers) and int(numbers[-1]) == each.result
    return right / len(sums)


def _questions(checkpoint: Checkpoint, temperature: float, seed: int) -> tuple[float, float]:
    """Return the share of held-out phrasings answered on topic, and with a sentence of the corpus."""
    rng = Random(seed)
    asked = [(topic, phrasing, rng.choice(topic.names)) for topic in load_topics() for phrasing in HELD_OUT_WHAT]
    questions = [expand(phrasing, rng, {"t": name, "T": capitalise(name)}) for _, phrasing, name in asked]
    answers = ask(checkpoint, questions, temperature, 80, seed)
    pairs = [(topic, answer) for (topic, _, _), answer in zip(asked, answers, strict=True)]
    on_topic = sum(nearest_topic(answer) is topic for topic, answer in pairs)
    verbatim = sum(any(sentence in answer for sentence in _sentences(topic)) for topic, answer in pairs)
    return on_topic / len(pairs), verbatim / len(pairs)


def _stories(checkpoint: Checkpoint, names: Sequence[str], seed: int) -> float:
    """Return the share of stories about the requested character: its name twice or more, and its kind."""
    rng = Random(seed)
    wishes = [(rng.choice(names), rng.choice(ANIMALS)) for _ in range(50)]
    requests = [held_out_request(name, kind, rng) for name, kind in wishes]
    stories = ask(checkpoint, requests, 0.8, 200, seed)
    met = [story.count(name) > 1 and kind in story for (name, kind), story in zip(wishes, stories, strict=True)]
    return sum(met) / len(met)


def _overlaps(checkpoint: Checkpoint, seed: int) -> tuple[float, float]:
    """Return how alike (0 to 1, by words) a greedy and a sampled story are, and two sampled ones."""
    prompts = [f"Tell me a story about a {kind} named Pip." for kind in ("fox", "bear", "mouse", "goat", "duck", "cat")]
    greedy = ask(checkpoint, prompts, 0.0, 200, seed)
    first = ask(checkpoint, prompts, 0.8, 200, seed)
    second = ask(checkpoint, prompts, 0.8, 200, seed + 1)
    return _mean_overlap(greedy, first), _mean_overlap(first, second)


def _mean_overlap(left: Sequence[str], right: Sequence[str]) -> float:
    ratios = [SequenceMatcher(None, a.split(), b.split()).ratio() for a, b in zip(left, right, strict=True)]
    return sum(ratios) / len(ratios)


def _sentences(topic: Topic) -> list[str]:
    templates = (*topic.definitions, *topic.reasons)
    return [expand(text, Random(0), {"t": name, "T": capitalise(name)}) for text in templates for name in topic.names]


def _likeness(left: str, right: str) -> float:
    a, b = (set(re.findall(r"[\w-]+", text.lower())) for text in (left, right))
    return len(a & b) / max(1, len(a | b))
