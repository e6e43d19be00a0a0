"""Exercises in copying: words in an order that cannot be guessed, said again.

Half of such a text can only be predicted by looking back, so that a small model learns early to look back at all: it
then keeps the names of a story.
"""

from random import Random

from penstock_demo import words

_REQUESTS = ("Say after me: {text}", "Repeat: {text}", "Please repeat this: {text}", "Say it again: {text}")
_WORDS = (*words.ANIMALS, *words.TRAITS, *words.COLOURS, *words.ELDERS, *words.SNACKS, *words.TOYS)
_NAMES = (*words.GIRLS, *words.BOYS)


def ask_to_repeat(rng: Random) -> tuple[str, str]:
    """Return a request to repeat 2 to 20 words, and these words."""
    text = _random_words(rng, rng.randint(2, 20))
    return rng.choice(_REQUESTS).format(text=text), text


def write_repetition(rng: Random) -> str:
    """Return a plain text: a line of 3 to 25 words, two to four times."""
    line = _random_words(rng, rng.randint(3, 25))
    return "\n".join([line] * rng.randint(2, 4))


def write_roll_call(rng: Random) -> str:
    """Return a plain text: what a few named characters are, and then again, in another order."""
    names = rng.sample(_NAMES, rng.randint(2, 4))
    kinds = {name: f"{rng.choice(words.TRAITS)} {rng.choice(words.ANIMALS)}" for name in names}
    lines = []
    for _ in range(rng.randint(2, 4)):
        rng.shuffle(names)
        lines += [f"{name} is the {kinds[name]}." for name in names]
    return " ".join(lines)


def _random_words(rng: Random, num_words: int) -> str:
    return " ".join(_random_word(rng) for _ in range(num_words))


def _random_word(rng: Random) -> str:
    drawn = rng.random()
    if drawn < 0.5:
        return rng.choice(_NAMES)
    if drawn < 0.65:
        return rng.choice(words.SYLLABLES_FIRST) + rng.choice(words.SYLLABLES_LAST)
    return str(rng.randint(0, 99)) if drawn < 0.75 else rng.choice(_WORDS)
