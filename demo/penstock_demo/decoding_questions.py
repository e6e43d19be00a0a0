"""Questions about decoding with factual answers, in many phrasings.

A topic is a block of `topics.txt`: its names, what it `is`, what `more` can be said, and `why` one would use it.
`{t}` is the name that the question used and `{T}` the same at the start of a sentence.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

from penstock_demo.grammar import capitalise, expand

WHAT = (
    "What is {t}?", "What's {t}?", "What is {t}?", "what is {t}", "What does {t} mean?", "What is meant by {t}?",
    "Explain {t}.", "Please explain {t}.", "Explain {t} to me.", "Can you explain {t}?",
    "Could you explain {t}, please?",
    "Explain {t} in simple words.", "Tell me about {t}.", "Can you tell me what {t} is?", "Do you know what {t} is?",
    "Please tell me what {t} is.", "How does {t} work?", "What does {t} do?", "How would you describe {t}?",
    "Describe {t}.", "Define {t}.", "What do you know about {t}?", "I do not understand {t}.", "{T}?",
    "I keep hearing about {t}. What is it?", "I read about {t}. What does it mean?", "I am new here. What is {t}?",
    "In a few words, what is {t}?", "Quick question: what is {t}?", "Hi! What is {t}?", "what's {t}?",
    "My teacher asked me what {t} is. Can you help?", "What can you tell me about {t}?", "tell me about {t}",
    "Give me a short definition of {t}.", "What is the idea behind {t}?", "I want to learn about {t}.",
)  # fmt: skip
WHY = (
    "Why would I use {t}?", "When should I use {t}?", "What is {t} good for?", "Why is {t} useful?",
    "What is the point of {t}?", "When is {t} useful?", "Why do people use {t}?", "Should I use {t}?",
)  # fmt: skip
HELD_OUT_WHAT = (
    "Would you mind explaining {t}?", "So what exactly is {t}?", "Help me understand {t}.", "Teach me about {t}.",
    "I have never heard of {t}. Can you explain it?", "Give me a quick introduction to {t}.",
    "Someone mentioned {t} to me. What did they mean?", "Please describe {t} briefly.",
)  # fmt: skip
HELD_OUT_WHY = ("What are the benefits of {t}?", "In which case does {t} help?")
_LEADS = ("", "", "", "", "", "", "[Good question!|Sure!|Of course.|Gladly.|Happy to explain.] ")
_DIFFERENCE = (
    "What is the difference between {a} and {b}?", "How does {a} differ from {b}?", "Compare {a} and {b}.",
    "How is {a} different from {b}?", "{A} or {b}: what is the difference?",
)  # fmt: skip
_CONTRASTED = (
    ("greedy decoding", "sampling", "Greedy decoding always takes the most likely token, but sampling draws one."),
    ("greedy decoding", "beam search", "Greedy decoding follows one text, but beam search follows several and keeps the"
     " best."),
    ("top-k sampling", "nucleus sampling", "Top-k keeps a fixed number of tokens, but nucleus sampling keeps as many as"
     " it needs to reach the probability p."),
    ("top-p", "min-p", "Top-p looks at the sum of the probabilities, but min-p compares each token with the best one."),
    ("temperature", "top-p", "Temperature changes the shape of the distribution, but top-p cuts off its tail."),
    ("the frequency penalty", "the presence penalty", "The frequency penalty grows with every repeat, but the presence"
     " penalty counts a token only once."),
    ("a logit", "a log-probability", "A logit is a raw score, but a log-probability comes after the softmax."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that can be asked about; `names` all mean the same."""

    names: tuple[str, ...]
    definitions: tuple[str, ...]
    additions: tuple[str, ...]
    reasons: tuple[str, ...]


@cache
def load_topics() -> tuple[Topic, ...]:
    """Read every topic, in the order of the file."""
    source = (resources.files("penstock_demo") / "topics.txt").read_text("utf-8")
    return tuple(_parse_topic(block) for block in source.strip().split("\n\n"))


def ask_about_decoding(rng: Random) -> tuple[str, str]:
    """Return a question in a phrasing that training may see, and a correct answer."""
    if rng.random() < 0.06:
        return _ask_for_difference(rng)
    topic = rng.choice(load_topics())
    if topic.reasons and rng.random() < 0.2:
        return ask_in_phrasing(topic, rng.choice(WHY), rng, topic.reasons)
    return ask_in_phrasing(topic, rng.choice(WHAT), rng, topic.definitions)


def ask_in_phrasing(topic: Topic, phrasing: str, rng: Random, answers: tuple[str, ...]) -> tuple[str, str]:
    """Return `phrasing` filled in for `topic`, and one of `answers`, often with an addition."""
    name = rng.choice(topic.names)
    slots = {"t": name, "T": capitalise(name)}
    answer = expand(rng.choice(_LEADS), rng, {}) + expand(rng.choice(answers), rng, slots)
    num_additions = min(len(topic.additions), rng.choice((0, 1, 1, 1, 2)))
    for index in sorted(rng.sample(range(len(topic.additions)), num_additions)):
        answer += " " + topic.additions[index]
    return expand(phrasing, rng, slots), answer


def _ask_for_difference(rng: Random) -> tuple[str, str]:
    first, second, answer = rng.choice(_CONTRASTED)
    if rng.random() < 0.5:
        first, second = second, first
    slots = {"a": first, "b": second, "A": capitalise(first)}
    return expand(rng.choice(_DIFFERENCE), rng, slots), answer


def _parse_topic(block: str) -> Topic:
    fields: dict[str, list[str]] = {"names": [], "is": [], "more": [], "why": []}
    for line in block.splitlines():
        key, value = line.split(": ", 1)
        fields[key].append(value)
    names = tuple(fields["names"][0].split(" | "))
    return Topic(names, tuple(fields["is"]), tuple(fields["more"]), tuple(fields["why"]))
