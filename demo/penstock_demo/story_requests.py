"""Requests for stories in chat form, each with a story that does what was asked."""

from random import Random

from penstock_demo.grammar import expand
from penstock_demo.stories import write_story
from penstock_demo.tiny_stories import write_tiny_story

_ABOUT_HERO = (
    "Tell me a story about a(n) {kind} named {A}.", "Tell me a story about a(n) {kind} called {A}.",
    "Write a story about a(n) {kind} named {A}.", "Can you tell me a story about {A} the {kind}?",
    "Please tell me a story about a(n) {kind} named {A}.", "I want to hear a story about {A} the {kind}.",
    "tell me a story about a(n) {kind} named {A}", "Make up a story about a(n) {kind} whose name is {A}.",
    "A bedtime story about {A} the {kind}, please.", "Do you know a story about a(n) {kind} named {A}?",
    "Tell a story about a(n) {trait} {kind} named {A}.", "Could you write a story about {A} the {kind}, please?",
)  # fmt: skip
_ABOUT_KIND = (
    "Tell me a story about a(n) {kind}.", "Write a story about a(n) {kind}.", "Do you know a story about a(n) {kind}?",
    "A story about a(n) {trait} {kind}, please.", "tell me a story about a(n) {kind}",
    "Can you tell a story with a(n) {kind}?",
)  # fmt: skip
_ABOUT_NAME = ("Tell me a story about {A}.", "Write a story about {A}.", "A story about someone called {A}, please.")
_ABOUT_FRIENDS = (
    "Tell me a story about {A} and {B}.",
    "Write a story about {A} the {kind} and {B} the {bkind}.",
    "Tell me a story about a(n) {kind} and a(n) {bkind}.",
)
_ABOUT_THEME = (
    "Tell me a story about {theme}.",
    "Write a story about {theme}.",
    "I would like a story about {theme}.",
    "Can you tell me a story about {theme}?",
    "Do you know a story about {theme}?",
)
_ANY = (
    "Tell me a story.", "Tell me a story, please.", "Can you tell me a story?", "tell me a story",
    "Another story, please.",
    "I would like to hear a story.", "Write a story.", "Do you know any stories?", "A bedtime story, please.",
)  # fmt: skip
_SHORT_ABOUT = (
    "Tell me a short story about a(n) {kind} named {A}.",
    "Tell me a very short story about {A} the {kind}.",
    "Write a tiny story about a(n) {kind} named {A}.",
    "A short story about a(n) {kind}, please.",
)
_SHORT_ANY = ("Tell me a short story.", "A very short story, please.", "Can you tell me a short story?")
HELD_OUT_ABOUT_HERO = (
    "I'd love to hear about {A} the {kind}.", "Could I have a story with a(n) {kind} named {A}?",
    "Give me a story starring {A} the {kind}.",
)  # fmt: skip
_LEADS = ("", "", "", "[Of course!|Sure!|Gladly.|Here is a story.|Here you are.]\n\n")


def ask_for_story(rng: Random) -> tuple[str, str]:
    """Return a request and a story of full length that fits it, sometimes under its title."""
    story = write_story(rng)
    slots = {
        "A": story.hero.name, "kind": story.hero.kind, "trait": story.hero.trait, "theme": story.theme,
        "B": story.friend.name, "bkind": story.friend.kind,
    }  # fmt: skip
    groups = (_ABOUT_HERO, _ABOUT_KIND, _ABOUT_NAME, _ABOUT_FRIENDS, _ABOUT_THEME, _ANY)
    templates = rng.choices(groups, weights=(8, 4, 2, 2, 4, 3))[0]
    title = f"{story.title}\n\n" if rng.random() < 0.15 else ""
    return expand(rng.choice(templates), rng, slots), expand(rng.choice(_LEADS), rng, {}) + title + story.text


def ask_for_short_story(rng: Random) -> tuple[str, str]:
    """Return a request for a short story, and one."""
    hero, text = write_tiny_story(rng)
    template = rng.choice(rng.choice((_SHORT_ABOUT, _SHORT_ABOUT, _SHORT_ANY)))
    return expand(template, rng, {"A": hero.name, "kind": hero.kind}), text


def held_out_request(name: str, kind: str, rng: Random) -> str:
    """Return a request in a phrasing that training never sees."""
    return expand(rng.choice(HELD_OUT_ABOUT_HERO), rng, {"A": name, "kind": kind})
