"""The body of `POST /v1/embeddings`: OpenAI's fields, vLLM's where it has one, and ours."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from penstock_engine.request import Pooling
from penstock_server.errors import BadRequest
from penstock_server.schemas.fields import Body
from penstock_server.schemas.prompts import Prompt, params_of, prompts_of
from penstock_server.schemas.read import check_truncation, read_known, read_object

# OpenAI's bound.
MAX_INPUTS = 2048

# With the values that ask for nothing; all others are refused. Most are vLLM's.
REFUSED: dict[str, tuple[object, ...]] = {
    "embed_dtype": ("float32",),
    "endianness": ("little", "native"),
    "padding": ("do_not_pad",),
    "messages": (),
    "add_generation_prompt": (False,),
    "continue_final_message": (False,),
    "chat_template": (),
    "chat_template_kwargs": (),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "request_id": (),
}


def _read_input(value: object) -> tuple[Prompt, ...]:
    inputs = prompts_of(value, "input")
    if len(inputs) > MAX_INPUTS:
        raise BadRequest(f"{len(inputs)} inputs are more than {MAX_INPUTS}", "input", "invalid_value")
    for one, param in zip(inputs, params_of(inputs, "input"), strict=True):
        if not one:
            raise BadRequest("must not be empty", param, "invalid_value")
    return inputs


class EmbeddingsBody(Body):
    """One or many texts, each to become a vector.

    `normalize` and `use_activation` are two names of one thing; read `is_normalized`.
    """

    model: str
    input: Annotated[tuple[Prompt, ...], BeforeValidator(_read_input)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    # Models trained to generate have nothing in particular at their last token: it is there to tell the next one.
    pooling: Pooling = "mean"
    normalize: bool | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    truncation_side: Literal["left", "right"] = "left"
    add_special_tokens: bool = True
    priority: int = Field(default=0, ge=-(2**31), le=2**31 - 1)
    cache_salt: str = Field(default="", max_length=256)

    @property
    def is_normalized(self) -> bool:
        return self.normalize is not False and self.use_activation is not False


def read_embeddings(raw: bytes, *, lenient: bool = False) -> EmbeddingsBody:
    """`lenient`: as for `read_completion`.

    Raises:
        BadRequest: names the field.
    """
    given = read_object(raw)
    if given.get("messages") is not None:
        told = "an embedding is made of texts; /apply_template turns messages into one, for `input`"
        raise BadRequest(told, "messages", "unsupported_parameter")
    body = read_known(EmbeddingsBody, given, REFUSED, lenient=lenient)
    check_truncation(body.truncate_prompt_tokens)
    if body.normalize is not None and body.use_activation not in (None, body.normalize):
        raise BadRequest("contradicts normalize, which means the same", "use_activation", "invalid_value")
    return body
