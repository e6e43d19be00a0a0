"""The bodies of the routes that only turn text into tokens and back: nothing is generated."""

from typing import Annotated

from pydantic import Field

from penstock_server.errors import BadRequest
from penstock_server.schemas.chat import Messages, TemplateVariables
from penstock_server.schemas.fields import Strict
from penstock_server.schemas.read import read_object, validated


class TemplateBody(Strict):
    """Messages to render with the model's chat template."""

    model: str | None = None
    messages: Messages
    add_generation_prompt: bool = True
    chat_template_kwargs: TemplateVariables = Field(default={})


class TokenizeBody(Strict):
    """A text, or messages as a chat request has them: one of the two.

    `add_special_tokens`: those that the tokenizer puts around a text (by default it does) or around what a chat
    template wrote (by default not, since templates write their own). `return_token_strs`: each token as text, too.
    """

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: TemplateVariables = Field(default={})
    return_token_strs: bool = False


class DetokenizeBody(Strict):
    """Token ids of the model's vocabulary. `skip_special_tokens`: leave out those that are no text."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]
    skip_special_tokens: bool = False


def read_template(raw: bytes) -> TemplateBody:
    """
    Raises:
        BadRequest: names the field.
    """
    return validated(TemplateBody, read_object(raw))


def read_tokenize(raw: bytes) -> TokenizeBody:
    """
    Raises:
        BadRequest: names the field.
    """
    body = validated(TokenizeBody, read_object(raw))
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("give either this or messages", "prompt", "invalid_value")
    if body.messages is None:
        for name in ("add_generation_prompt", "chat_template_kwargs"):
            if name in body.model_fields_set:
                raise BadRequest("goes with messages only", name, "invalid_value")
    return body


def read_detokenize(raw: bytes) -> DetokenizeBody:
    """
    Raises:
        BadRequest: names the field.
    """
    return validated(DetokenizeBody, read_object(raw))
