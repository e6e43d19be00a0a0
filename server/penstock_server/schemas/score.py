"""The body of `POST /v1/score`: texts whose likelihood is told, by themselves, behind a context, or as labels."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from penstock_server.errors import BadRequest
from penstock_server.schemas.fields import MAX_TOP_LOGPROBS, Body
from penstock_server.schemas.prompts import Prompt, params_of, prompts_of
from penstock_server.schemas.read import read_known, read_object

# Each is a request in the engine and a row of the reply.
MAX_SCORES = 4096

# Fields of routes of this name elsewhere, which tell how near two texts are, or how likely single tokens.
_SIMILARITY = "this model tells how likely a text is, not how near two are: give input, and context"
_NEXT_TOKEN = "give the texts that may follow as labels, or those that follow as input and what they follow as context"
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("text_1", "text_2", "data_1", "data_2", "queries", "documents", "top_n"), _SIMILARITY),
    **dict.fromkeys(("query", "items", "item_first", "label_token_ids", "apply_softmax"), _NEXT_TOKEN),
}


def _read_texts(value: object, param: str) -> tuple[Prompt, ...]:
    texts = prompts_of(value, param)
    for text, place in zip(texts, params_of(texts, param), strict=True):
        if not text:
            raise BadRequest("must not be empty", place, "invalid_value")
    return texts


def _read_input(value: object) -> tuple[Prompt, ...]:
    return _read_texts(value, "input")


def _read_context(value: object) -> tuple[Prompt, ...]:
    return prompts_of(value, "context")


def _read_labels(value: object) -> tuple[Prompt, ...]:
    labels = _read_texts(value, "labels")
    if len(labels) < 2:
        raise BadRequest("needs two or more to choose from", "labels", "invalid_value")
    return labels


class ScoreBody(Body):
    """One or many texts to score.

    `context`: empty, one for all inputs, or one for each; the text "" is the beginning of a document. `labels`: empty,
    or continuations of each input, of which one is the likeliest. All are texts, or all are token ids.
    """

    model: str
    input: Annotated[tuple[Prompt, ...], BeforeValidator(_read_input)]
    context: Annotated[tuple[Prompt, ...], BeforeValidator(_read_context)] = ()
    labels: Annotated[tuple[Prompt, ...], BeforeValidator(_read_labels)] = ()
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    add_special_tokens: bool = True
    priority: int = Field(default=0, ge=-(2**31), le=2**31 - 1)
    cache_salt: str = Field(default="", max_length=256)


def read_score(raw: bytes, *, lenient: bool = False) -> ScoreBody:
    """`lenient`: as for `read_completion`.

    Raises:
        BadRequest: names the field.
    """
    given = read_object(raw)
    for name, told in ELSEWHERE.items():
        if given.get(name) is not None:
            raise BadRequest(told, name, "unsupported_parameter")
    body = read_known(ScoreBody, given, {}, lenient=lenient)
    if body.context and body.labels:
        raise BadRequest("what the labels follow is the input; begin it with the context", "context", "invalid_value")
    if len(body.context) not in (0, 1, len(body.input)):
        told = f"{len(body.context)} contexts for {len(body.input)} inputs: give one, or one for each"
        raise BadRequest(told, "context", "invalid_value")
    is_text = isinstance(body.input[0], str)
    for name, texts in (("context", body.context), ("labels", body.labels)):
        if any(isinstance(text, str) is not is_text and text for text in texts):
            told = "must be texts, as the input is" if is_text else "must be token ids, as the input is"
            raise BadRequest(told, name, "invalid_type")
    num_scores = len(body.input) * max(len(body.labels), 1)
    if num_scores > MAX_SCORES:
        raise BadRequest(f"asks for {num_scores} scores, more than {MAX_SCORES}", "input", "invalid_value")
    return body
