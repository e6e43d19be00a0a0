"""Who and what a story is about. The two characters differ in gender, so that a pronoun names only one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from penstock_demo import words
from penstock_demo.grammar import capitalise, expand

_SMALL_WORDS = {"the", "of", "a", "an", "in", "and", "behind"}


@dataclass(frozen=True, slots=True)
class Character:
    """A name, what the character is ("fox", "girl"), one trait, and the gender of its pronouns."""

    name: str
    kind: str
    trait: str
    is_female: bool


def draw_character(rng: Random, *, is_female: bool, share_of_animals: float) -> Character:
    """Draw a character; one name in seven is made of syllables, so that names must be copied and not known."""
    kind = rng.choice(words.ANIMALS) if rng.random() < share_of_animals else ("girl" if is_female else "boy")
    names: Sequence[str] = words.GIRLS if is_female else words.BOYS
    name = rng.choice(names)
    if rng.random() < 1 / 7:
        name = rng.choice(words.SYLLABLES_FIRST) + rng.choice(words.SYLLABLES_LAST)
    return Character(name, kind, rng.choice(words.TRAITS), is_female)


def draw_cast(rng: Random) -> tuple[Character, Character]:
    """Draw a hero and a friend with different names, kinds and genders."""
    is_female = rng.random() < 0.5
    hero = draw_character(rng, is_female=is_female, share_of_animals=0.7)
    friend = draw_character(rng, is_female=not is_female, share_of_animals=0.9)
    while friend.name == hero.name or friend.kind == hero.kind or friend.trait == hero.trait:
        friend = draw_character(rng, is_female=not is_female, share_of_animals=0.9)
    return hero, friend


def slots_for(hero: Character, friend: Character, rng: Random) -> dict[str, str]:
    """Return a value for every slot that the plots use."""
    place, place2 = rng.sample(words.PLACES, 2)
    colour = rng.choice(words.COLOURS)
    look = rng.choice(words.TOY_LOOKS)
    noun = rng.choice(words.TOYS)
    day = expand("one [sunny|fine|warm|bright|windy|quiet|cold|grey|] [morning|afternoon|day]", rng, {})
    slots = {
        "A": hero.name, "kind": hero.kind, "trait": hero.trait,
        "B": friend.name, "bkind": friend.kind, "btrait": friend.trait,
        "elder": rng.choice(words.ELDERS), "home": expand(rng.choice(words.HOMES), rng, {}),
        "place": place, "place2": place2, "far": rng.choice(words.FAR_PLACES),
        "noun": noun, "thing": f"{look} {noun}", "colour": look if look in words.COLOURS else colour,
        "snack": rng.choice(words.SNACKS), "bake": rng.choice(words.BAKES), "day": " ".join(day.split()),
    }  # fmt: skip
    slots |= _pronouns("", hero.is_female) | _pronouns("b", friend.is_female)
    slots |= {"Day": capitalise(slots["day"])}
    for key in ("thing", "snack", "bake", "place", "far", "kind"):
        slots[capitalise(key)] = _titled(slots[key])
    return slots


def _pronouns(prefix: str, is_female: bool) -> dict[str, str]:
    values = ("she", "her", "her", "herself") if is_female else ("he", "him", "his", "himself")
    lower = dict(zip(("he", "him", "his", "himself"), values, strict=True))
    named = {prefix + key: value for key, value in lower.items()}
    return named | {capitalise(key): capitalise(value) for key, value in named.items()}


def _titled(phrase: str) -> str:
    return " ".join(word if word in _SMALL_WORDS else capitalise(word) for word in phrase.split())
