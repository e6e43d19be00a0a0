"""What a text holds of its required words, by looking for every form everywhere: slow, and plain to read."""

from collections.abc import Sequence

from penstock_decoding.strategies.required_words import Word

Tokens = tuple[int, ...]


def holds(text: Tokens, word: Word) -> bool:
    """Whether some form of the word stands in the text, in one piece."""
    return any(text[i : i + len(form)] == tuple(form) for form in word for i in range(len(text)))


def beginnings(form: Tokens, text: Tokens) -> list[int]:
    """How many of the form's first tokens the text ends with, in all ways; 0 is one."""
    return [size for size in range(len(form)) if text[len(text) - size :] == form[:size]]


def num_missing(word: Word, text: Tokens) -> int:
    """Tokens the word needs at least from here on; 0 if the text holds it."""
    if holds(text, word):
        return 0
    return min(len(form) - max(beginnings(tuple(form), text)) for form in word)


def progress(words: Sequence[Word], text: Tokens) -> int:
    """Tokens of all words that the text holds, and of the one that is furthest under way."""
    sizes = [min(map(len, word)) for word in words]
    missing = [num_missing(word, text) for word in words]
    under_way = max((size - count for size, count in zip(sizes, missing, strict=True) if count), default=0)
    return sum(size for size, count in zip(sizes, missing, strict=True) if not count) + under_way
