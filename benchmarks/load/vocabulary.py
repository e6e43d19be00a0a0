"""`Vocabulary`: what random prompts are made of, so that they have exactly the length that was asked for.

Prompts are drawn as numbers, *units*, and a vocabulary turns units into content, one token each:

- `Ids`: token ids, for servers that take them. They come from a range that every model has, above the special and
  byte tokens that most put first.
- `Words`: text of common words, of which the server itself said (by its usage) that each is one token. For chat, and
  for servers that take no ids.

Not for models whose tokenizer joins words across spaces: there the lengths are near, and usage reports the true ones.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from load.errors import NotReady

Content = str | list[int]

FIRST_ID = 128
DEFAULT_VOCAB_SIZE = 1000
_START = "Story"
# Common, short, and lower case: one token each in most vocabularies.
_CANDIDATES = (
    "the and you that was for are with his they this have from one had not but what all were when your can said there "
    "use each which she how their will other about out many then them these some her would make like him into time "
    "has look two more write see number way could people than first water been call who now find long down day did get "
    "come made may part over new take only little work know place year live back give most very after thing our just "
    "name good man think say great where help much before line right too mean old any same tell boy follow want show "
    "also around form three small set put end does another well large must big even such because turn here why ask went"
).split()
_FEWEST_WORDS = 16
# Prompts of as many words hardly ever begin alike, and asking on costs requests.
_ENOUGH_WORDS = 48


class Vocabulary(Protocol):
    """Turns units into content. `overhead` is the number of tokens that the server counts beyond one per unit."""

    @property
    def size(self) -> int: ...

    @property
    def overhead(self) -> int: ...

    def content(self, units: Sequence[int]) -> Content: ...


@dataclass(frozen=True, slots=True)
class Ids:
    """Token ids `first` up to `first + size`."""

    first: int
    size: int
    overhead: int = 0

    def content(self, units: Sequence[int]) -> Content:
        return [self.first + unit for unit in units]


@dataclass(frozen=True, slots=True)
class Words:
    """Text that begins with one fixed word, which is part of the overhead, and goes on with words of one token."""

    words: tuple[str, ...]
    overhead: int

    @property
    def size(self) -> int:
        return len(self.words)

    def content(self, units: Sequence[int]) -> Content:
        return " ".join((_START, *(self.words[unit] for unit in units)))


def ids_below(vocab_size: int, overhead: int = 0) -> Ids:
    """Ids of a model with at least `vocab_size` tokens; of a tiny vocabulary its upper half."""
    first = min(FIRST_ID, vocab_size // 2)
    return Ids(first, vocab_size - first, overhead)


async def find_words(count_tokens: Callable[[str], Awaitable[int | None]]) -> Words:
    """Words of one token each, found by asking how many tokens some texts have.

    Tokenizers split text at spaces first, so the tokens of a text are the sum of its words'. A list of words that has
    as many tokens as words is good; any other is cut in two and tried again, until there are enough. `count_tokens`
    gives a prompt's tokens with all that the server adds (None: it does not say; then every word is taken for one).

    Raises:
        NotReady: too few words are one token.
    """
    overhead = await count_tokens(_START)
    if overhead is None:
        return Words(tuple(_CANDIDATES), 1)
    found: list[str] = []
    untried = [_CANDIDATES]
    while untried and len(found) < _ENOUGH_WORDS:
        words = untried.pop()
        num_tokens = await count_tokens(" ".join((_START, *words)))
        assert num_tokens is not None, "a server that counted once counts again"
        if num_tokens - overhead == len(words):
            found += words
        elif len(words) > 1:
            middle = len(words) // 2
            untried += [words[:middle], words[middle:]]
    if len(found) < _FEWEST_WORDS:
        raise NotReady(
            f"only {len(found)} of {len(_CANDIDATES)} common words are one token here, so no prompt of exact length "
            "can be made of text; use --prompts file"
        )
    return Words(tuple(sorted(found)), overhead)
