"""The chat format: ChatML-like turns, and conversations that mix everything the model can talk about."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from penstock_demo import smalltalk, words
from penstock_demo.decoding_questions import ask_about_decoding
from penstock_demo.grammar import expand
from penstock_demo.limits import ask_beyond
from penstock_demo.story_requests import ask_for_short_story, ask_for_story
from penstock_demo.sums import ask_sum

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SYSTEM = (
    "You are a helpful assistant.", "You are the Penstock demo model.", "You are a friendly storyteller.",
    "You are a kind assistant who likes stories.", "Be polite and helpful.", "You help people to learn about decoding.",
)  # fmt: skip
_PERSONAS = (
    ("You are a pirate.", ("Arr! {text}", "Ahoy! {text}", "{text} Arr!", "Yo ho ho! {text}")),
    ("You are a sleepy bear.", ("Yawn. {text}", "{text} Now I want to sleep.", "{text} Yawn.")),
    ("You are a polite robot.", ("Beep. {text}", "{text} Beep, boop.", "Beep, boop. {text}")),
    ("You are a happy duck.", ("Quack! {text}", "{text} Quack!", "Quack, quack! {text}")),
    ("You are a wise old owl.", ("Hoo, hoo. {text}", "{text} Hoo.", "My dear child, listen. {text}")),
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


def render(messages: list[Message]) -> str:
    """Return the chat as the template renders it, without the text that precedes every document."""
    return "".join(f"{TURN_START}{message.role}\n{message.content}{TURN_END}\n" for message in messages)


def story_chat(rng: Random) -> list[Message]:
    """A request for a story and the story, sometimes after a greeting or before thanks."""
    exchange = ask_for_short_story if rng.random() < 0.2 else ask_for_story
    turns = [exchange(rng)]
    if rng.random() < 0.12:
        turns.insert(0, smalltalk.greet(rng))
    if rng.random() < 0.1:
        turns.append(_brief_exchange(rng))
    return _messages(turns, _system_message(rng, 0.1))


def brief_chat(rng: Random) -> list[Message]:
    """A chat of one to five short exchanges about anything."""
    turns: list[tuple[str, str]] = []
    if rng.random() < 0.4:
        turns.append(smalltalk.greet(rng))
    turns += [_brief_exchange(rng) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.25:
        turns = _with_name(turns, rng)
    if rng.random() < 0.25:
        turns.append(smalltalk.part(rng))
    if rng.random() < 0.1:
        system, templates = rng.choice(_PERSONAS)
        turns = [(said, expand(rng.choice(templates), rng, {"text": answer})) for said, answer in turns]
        return _messages(turns, system)
    return _messages(turns, _system_message(rng, 0.15))


def single_exchange(exchange: Callable[[Random], tuple[str, str]], rng: Random) -> list[Message]:
    """A chat of one question and its answer."""
    return _messages([exchange(rng)], _system_message(rng, 0.1))


def sum_chat(rng: Random) -> list[Message]:
    """A chat of one to four sums."""
    return _messages([ask_sum(rng) for _ in range(rng.choice((1, 1, 2, 3, 4)))], _system_message(rng, 0.05))


def _brief_exchange(rng: Random) -> tuple[str, str]:
    exchanges = (smalltalk.chat_a_little, ask_sum, ask_about_decoding, ask_beyond, ask_for_short_story)
    return rng.choices(exchanges, weights=(10, 3, 3, 1, 1))[0](rng)


def _with_name(turns: list[tuple[str, str]], rng: Random) -> list[tuple[str, str]]:
    if rng.random() < 0.15:
        return [*turns, smalltalk.ask_for_name(None, rng)]
    name = rng.choice(words.GIRLS + words.BOYS)
    if rng.random() < 0.3:
        name = rng.choice(words.SYLLABLES_FIRST) + rng.choice(words.SYLLABLES_LAST)
    return [smalltalk.give_name(name, rng), *turns[:2], smalltalk.ask_for_name(name, rng)]


def _system_message(rng: Random, share: float) -> str | None:
    return rng.choice(_SYSTEM) if rng.random() < share else None


def _messages(turns: list[tuple[str, str]], system: str | None) -> list[Message]:
    messages = [] if system is None else [Message("system", system)]
    for said, answer in turns:
        messages += [Message("user", said), Message("assistant", answer)]
    return messages
