"""The body of `POST /v1/completions`."""

from typing import Annotated, cast

from pydantic import BeforeValidator, Field

from penstock_server.errors import BadRequest
from penstock_server.schemas.fields import MAX_TOP_LOGPROBS, GenerationFields

Prompt = str | tuple[int, ...]

DEFAULT_MAX_TOKENS = 16
_SHAPES = "must be a string, a list of strings, a list of token ids, or a list of such lists"


def _read_prompts(value: object) -> tuple[Prompt, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise BadRequest(_SHAPES + "; not empty", "prompt", "invalid_type")
    if isinstance(value[0], int):
        return (_read_token_ids(value, "prompt"),)
    prompts: list[Prompt] = []
    for i, item in enumerate(value):
        if isinstance(item, str) and isinstance(value[0], str):
            prompts.append(item)
        elif isinstance(item, list) and isinstance(value[0], list):
            prompts.append(_read_token_ids(item, f"prompt.{i}"))
        else:
            raise BadRequest(_SHAPES, f"prompt.{i}", "invalid_type")
    return tuple(prompts)


def _read_token_ids(items: list[object], param: str) -> tuple[int, ...]:
    if not items:
        raise BadRequest("a list of token ids must not be empty", param, "invalid_value")
    # Passes in C over what may be a long list; the slow search only names the culprit.
    if set(map(type, items)) == {int} and min(cast(list[int], items)) >= 0:
        return tuple(cast(list[int], items))
    at = next(i for i, item in enumerate(items) if type(item) is not int or item < 0)
    raise BadRequest("must be a token id", f"{param}.{at}", "invalid_type")


class CompletionBody(GenerationFields):
    """One or many prompts, each continued n times."""

    prompt: Annotated[tuple[Prompt, ...], BeforeValidator(_read_prompts)]
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    echo: bool = False
    add_special_tokens: bool = True

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs
