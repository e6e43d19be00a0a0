"""`ScoredText`: the tokens of a text behind its context, and which of them count.

Context and text are encoded as one. Those tokens count that write any of the text's characters: where a token spans the
two, as one with the space before a word does, it is the text's. The first token of all has nothing before it and does
not count; a tokenizer that begins every text with a token of its own leaves none of the text's uncounted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock_engine.config import EngineInfo
from penstock_server.errors import BadRequest
from penstock_server.model import ServedModel
from penstock_server.prompt_tokens import check_characters, check_token_id
from penstock_server.schemas.prompts import Prompt
from penstock_server.text.token_places import place_text, place_tokens
from penstock_server.text.tokenizer import Tokenizer

START_OF_DOCUMENT = ""


class Asked(NamedTuple):
    """Where in the body a text stands, and what it follows."""

    param: str
    context_param: str


@dataclass(frozen=True, slots=True)
class ScoredText:
    """Tokens `first` to `end` (exclusive) of `token_ids` count.

    `param`: where in the body the text stands. `places`: where each counted token begins in context and text together,
    in characters; `num_bytes`: what they write of the text, in UTF-8. `is_whole`: all of the text's own tokens count,
    and there are some.
    """

    token_ids: tuple[int, ...]
    first: int
    end: int
    places: tuple[int, ...]
    num_bytes: int
    param: str
    is_whole: bool

    @property
    def first_told(self) -> int:
        """The first token that the engine is to tell of: one of the text's, even where none counts."""
        return min(self.first, len(self.token_ids) - 1) or 1

    @property
    def counted_ids(self) -> tuple[int, ...]:
        return self.token_ids[self.first : self.end]


def scored_text(
    context: Prompt | None, text: Prompt, asked: Asked, model: ServedModel, info: EngineInfo, *, adds_special: bool
) -> ScoredText:
    """`context`: of the text's kind, "" for the beginning of a document, or None. `adds_special`: the tokenizer puts
    its own tokens around texts.

    Raises:
        BadRequest: too long, nothing at all, or a token id that there is not.
    """
    if isinstance(text, str):
        before = context if isinstance(context, str) else ""
        check_characters(before + text, asked.param, model, info)
        cut = _cut_text(before, text, model.codec.tokenizer, adds_special=adds_special)
    else:
        before_ids = context if isinstance(context, tuple) else ()
        for ids, param in ((before_ids, asked.context_param), (text, asked.param)):
            for i, token_id in enumerate(ids):
                check_token_id(token_id, f"{param}.{i}", info)
        cut = _cut_ids(before_ids, text, model.codec.tokenizer)
    token_ids, places, first, end = cut.token_ids, cut.places, cut.first, cut.end
    bos_id = model.codec.tokenizer.bos_id
    if context == START_OF_DOCUMENT and first == 0 and (not token_ids or token_ids[0] != bos_id):
        if bos_id is None:
            told = "must not be empty: this model has no token that begins a text"
            raise BadRequest(told, asked.context_param, "invalid_value")
        token_ids, places, first, end = [bos_id, *token_ids], [0, *places], 1, end + 1
    if not token_ids:
        raise BadRequest("has no tokens: the tokenizer makes nothing of it", asked.param, "invalid_value")
    if len(token_ids) > info.max_model_len:
        told = f"has {len(token_ids)} tokens with what it follows; the model's context has {info.max_model_len}"
        raise BadRequest(told, asked.param, "context_length_exceeded")
    is_whole = 0 < first < end
    first = max(first, 1)  # nothing comes before the first token of all
    counted = tuple(places[first:end])
    written = cut.whole[max(counted[0], cut.start) :] if counted else ""
    return ScoredText(tuple(token_ids), first, end, counted, len(written.encode()), asked.param, is_whole)


class _Cut(NamedTuple):
    """`whole`: context and text, which begins at the character `start` and whose tokens are those from `first` on."""

    token_ids: Sequence[int]
    places: Sequence[int]
    first: int
    end: int
    whole: str
    start: int


def _cut_text(before: str, text: str, tokenizer: Tokenizer, *, adds_special: bool) -> _Cut:
    whole, start = before + text, len(before)
    # A tokenizer can make nothing of a text, or of a part of it, if it leaves out what it does not know.
    placed = place_text(whole, tokenizer, add_special_tokens=adds_special)
    if not placed:
        return _Cut((), (), 0, 0, whole, start)
    ends = [*(token.place for token in placed[1:]), len(whole)]
    own = [
        i
        for i, (token, end) in enumerate(zip(placed, ends, strict=True))
        if not token.is_added and (token.place >= start or end > start)
    ]
    ids, places = [token.token_id for token in placed], [token.place for token in placed]
    return _Cut(ids, places, own[0] if own else len(ids), own[-1] + 1 if own else len(ids), whole, start)


def _cut_ids(before: tuple[int, ...], text: tuple[int, ...], tokenizer: Tokenizer) -> _Cut:
    ids = [*before, *text]
    whole, places = place_tokens(ids, tokenizer.vocabulary)
    return _Cut(ids, places, len(before), len(ids), whole, places[len(before)])
