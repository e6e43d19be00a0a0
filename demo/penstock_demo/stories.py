"""Writes stories: an opening, one plot told beat by beat, sometimes a last line.

A plot is a file in `plots/`: two header lines (themes, titles), then paragraphs. Each paragraph is a beat and each of
its lines one way to tell it; a paragraph whose lines begin with "?" is left out half of the time.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

from penstock_demo import words
from penstock_demo.cast import Character, draw_cast, slots_for
from penstock_demo.grammar import expand, pick

_OPENINGS = (
    "Once upon a time, there was a(n) {trait} {kind} named {A}. {He} lived {home}.",
    "Once upon a time, a(n) {trait} {kind} named {A} lived {home}.",
    "Once upon a time, there lived a(n) {trait} {kind} {home}. {His} name was {A}.",
    "[Long ago|Many years ago], a(n) {kind} named {A} lived {home}. {He} was [very|rather|a bit] {mood}.",
    "There once was a(n) {kind} [called|named] {A}, who lived {home} with {his} {elder}.",
    "{A} was a(n) {trait} {kind}. {He} lived {home}.",
    "{A} the {kind} lived {home}. {He} was [known for being|always] {mood}.",
    "This is the story of {A}, a(n) {trait} {kind} who lived {home}.",
    "There was once a(n) {trait} {kind} whose name was {A}. {He} lived {home}[| with {his} {elder}].",
    "{A} was the [youngest|smallest] {kind} in the [whole land|whole family], and {he} lived {home}.",
)
_MOODS = ("curious", "cheerful", "shy", "clever", "kind", "dreamy", "friendly", "careful", "polite")
_DETAILS = (
    "{He} liked to {hobby} and to {hobby2}.",
    "Every day, {he} liked to {hobby}.",
    "{He} loved to {hobby} [in the morning|on Sundays|after breakfast].",
    "{His} {elder} [told the best stories|made the best soup in the land|always knew what to do].",
    "[Everyone|The neighbours] liked {him}, because {he} [always had a kind word|never forgot to say good morning].",
    "On rainy days {he} liked to {hobby}, and on sunny days {he} liked to {hobby2}.",
)
_LAST_LINES = (
    "The end.", "The end.", "The end.",
    "That night, {A} slept [well|very well] and dreamed of {place}.",
    "And they [stayed friends|were happy] for many years.",
    "What a [wonderful|lovely|special] day it had been!",
    "{A} never forgot that day.",
    "And if you ever [go|come] to {place}, [say hello to {A}|you may meet {A} there].",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plot:
    """What a story can be about: its themes, its titles, and its beats (each a tuple of templates)."""

    name: str
    themes: tuple[str, ...]
    titles: tuple[str, ...]
    beats: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Story:
    """A finished story with what it is about, so that a request for it can be phrased."""

    title: str
    theme: str
    hero: Character
    friend: Character
    text: str


@cache
def load_plots() -> tuple[Plot, ...]:
    """Read every plot, in order of name."""
    files = resources.files("penstock_demo") / "plots"
    return tuple(
        _parse_plot(file.name.removesuffix(".txt"), file.read_text("utf-8"))
        for file in sorted(files.iterdir(), key=lambda entry: entry.name)
        if file.name.endswith(".txt")
    )


def write_story(rng: Random) -> Story:
    """Write one story of 60 to 250 words."""
    hero, friend = draw_cast(rng)
    plot = rng.choice(load_plots())
    slots = slots_for(hero, friend, rng)
    slots["mood"] = rng.choice(_MOODS)
    slots["hobby"], slots["hobby2"] = rng.sample(words.HOBBIES, 2)
    parts = [pick(_OPENINGS, rng, slots)]
    if rng.random() < 0.4:
        parts[0] += " " + pick(_DETAILS, rng, slots)
    for beat in plot.beats:
        line = rng.choice(beat)
        if not line.startswith("?"):
            parts.append(expand(line, rng, slots))
        elif rng.random() < 0.5:
            parts.append(expand(line.removeprefix("?").strip(), rng, slots))
    if rng.random() < 0.5:
        parts.append(pick(_LAST_LINES, rng, slots))
    text = parts[0]
    for part in parts[1:]:
        text += ("\n\n" if rng.random() < 0.25 else " ") + part
    return Story(pick(plot.titles, rng, slots), rng.choice(plot.themes), hero, friend, text)


def _parse_plot(name: str, source: str) -> Plot:
    header, *paragraphs = source.strip().split("\n\n")
    fields = dict(line.split(": ", 1) for line in header.splitlines())
    beats = tuple(tuple(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs)
    return Plot(name, _listed(fields["themes"]), _listed(fields["titles"]), beats)


def _listed(field: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in field.split(" | "))
