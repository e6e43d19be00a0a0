"""Expands templates: `[this|that]` picks one, `{slot}` fills in a value, `a(n)` becomes "a" or "an".

Alternatives nest. The article is chosen last, by the word that ended up behind it.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (\W*)(\w+)")
_CONSONANT_SOUND = re.compile(r"^(uni|use|usu|one|once|eu)", re.IGNORECASE)
_SILENT_H = re.compile(r"^(hour|honest|honou?r|heir)", re.IGNORECASE)


def article(word: str) -> str:
    """Return "an" before a vowel sound and "a" before any other."""
    if _SILENT_H.match(word):
        return "an"
    return "an" if word[0] in "aeiouAEIOU" and not _CONSONANT_SOUND.match(word) else "a"


def expand(template: str, rng: Random, slots: Mapping[str, str]) -> str:
    """Return one sentence of `template`'s language. Raises KeyError for a slot without a value."""
    text = template
    while "[" in text:
        text = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
    text = _SLOT.sub(lambda match: slots[match[1]], text)
    return _ARTICLE.sub(_with_article, text)


def pick(templates: Sequence[str], rng: Random, slots: Mapping[str, str]) -> str:
    """Expand one of `templates`, each as likely as the others."""
    return expand(rng.choice(templates), rng, slots)


def capitalise(text: str) -> str:
    """Return `text` with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def _with_article(match: re.Match[str]) -> str:
    chosen = article(match[3])
    return f"{match[1]}{chosen[1:]} {match[2]}{match[3]}"
