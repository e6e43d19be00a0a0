"""Where in a text the part of each of its tokens begins, in characters.

Invariant: the places never fall, the first one is 0, and the text from each place to the next is what that token wrote
of it. Of the tokens that share a character all but the last have no part.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penstock_server.text.detokenizer import open_detokenizer
from penstock_server.text.tokenizer import Tokenizer
from penstock_server.text.vocabulary import Vocabulary


class PlacedToken(NamedTuple):
    """A token of a text, and where its part begins. `is_added`: the tokenizer put it beside the text; it has none."""

    token_id: int
    place: int
    is_added: bool


def place_text(text: str, tokenizer: Tokenizer, *, add_special_tokens: bool = True) -> list[PlacedToken]:
    """The tokens that the tokenizer makes of `text`."""
    tokens = tokenizer.encode_with_spans(text, add_special_tokens=add_special_tokens)
    is_added = [span is None for _, span in tokens]
    written, places = _written([token_id for token_id, _ in tokens], is_added, tokenizer.showing(None))
    if written != text:
        # The tokenizer has changed it (its case, the form of an accent, a space) before it cut it. What its spans leave
        # out, a space say, goes with the token that follows; that of each byte of a character is all the character.
        places = _from_spans(span for _, span in tokens)
    return [PlacedToken(i, place, added) for (i, _), place, added in zip(tokens, places, is_added, strict=True)]


def place_tokens(token_ids: Sequence[int], vocabulary: Vocabulary) -> tuple[str, list[int]]:
    """The text that the vocabulary makes of these tokens, and where each one begins in it."""
    return _written(token_ids, [False] * len(token_ids), vocabulary)


def _written(token_ids: Sequence[int], is_added: Sequence[bool], vocabulary: Vocabulary) -> tuple[str, list[int]]:
    detokenizer = open_detokenizer(vocabulary)
    pieces: list[str] = []
    places: list[int] = []
    num_characters = 0
    for token_id, added in zip(token_ids, is_added, strict=True):
        places.append(num_characters + detokenizer.num_held_before(token_id))
        if not added:
            pieces.append(detokenizer.push(token_id))
            num_characters += len(pieces[-1])
    pieces.append(detokenizer.finish())
    return "".join(pieces), places


def _from_spans(spans: Iterable[tuple[int, int] | None]) -> list[int]:
    places: list[int] = []
    place = end = 0
    for span in spans:
        if span is None:
            place = end
        else:
            place = max(place, min(end, span[0]))
            end = max(end, span[1])
        places.append(place)
    return places
