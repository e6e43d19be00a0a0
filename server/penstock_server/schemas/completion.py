"""The body of `POST /v1/completions`."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from penstock_server.schemas.fields import MAX_TOP_LOGPROBS, GenerationFields
from penstock_server.schemas.prompts import Prompt, prompts_of

DEFAULT_MAX_TOKENS = 16


def _read_prompts(value: object) -> tuple[Prompt, ...]:
    return prompts_of(value, "prompt")


class CompletionBody(GenerationFields):
    """One or many prompts, each continued n times. `suffix`: what comes behind each answer; "" for nothing."""

    prompt: Annotated[tuple[Prompt, ...], BeforeValidator(_read_prompts)]
    suffix: str = ""
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    echo: bool = False
    add_special_tokens: bool = True

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs
