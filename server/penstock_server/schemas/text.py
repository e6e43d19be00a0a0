"""The bodies of the routes that only turn text into tokens and back: nothing is generated."""

from typing import Annotated, Any

from pydantic import Field

from penstock_server.errors import BadRequest
from penstock_server.schemas.chat import Messages, TemplateVariables
from penstock_server.schemas.fields import Body
from penstock_server.schemas.read import check_continuation, read_known, read_object
from penstock_server.tools.offer import ToolOffer, read_offer

# vLLM's, with the values that ask for nothing.
REFUSED: dict[str, tuple[object, ...]] = {
    "chat_template": (),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
}


class ChatFields(Body):
    """Messages, and how the chat template is to render them: fields of a chat request, with its meanings."""

    model: str | None = None
    messages: Messages | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: TemplateVariables = Field(default={})
    tools: Any = None

    def offer(self) -> ToolOffer | None:
        """The tools that the template shows."""
        return read_offer(self.tools, None, True)


class TemplateBody(ChatFields):
    """Messages to render with the model's chat template."""

    messages: Messages


class TokenizeBody(ChatFields):
    """A text, or messages as a chat request has them: one of the two.

    `add_special_tokens`: those that the tokenizer puts around a text (by default it does) or around what a chat
    template wrote (by default not, since templates write their own). `return_token_strs`: each token as text, too.
    """

    prompt: str | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool = False


class DetokenizeBody(Body):
    """Token ids of the model's vocabulary. `skip_special_tokens`: leave out those that are no text."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]
    skip_special_tokens: bool = False


def read_template(raw: bytes, *, lenient: bool = False) -> TemplateBody:
    """`lenient`, here and below: unknown fields are passed over, and named in the body's warnings.

    Raises:
        BadRequest: names the field.
    """
    body = read_known(TemplateBody, read_object(raw), REFUSED, (), lenient=lenient)
    check_continuation(body, body.messages)
    return body


def read_tokenize(raw: bytes, *, lenient: bool = False) -> TokenizeBody:
    """
    Raises:
        BadRequest: names the field.
    """
    body = read_known(TokenizeBody, read_object(raw), REFUSED, (), lenient=lenient)
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("give either this or messages", "prompt", "invalid_value")
    if body.messages is not None:
        check_continuation(body, body.messages)
        return body
    for name in ChatFields.model_fields:
        if name != "model" and name in body.model_fields_set:
            raise BadRequest("goes with messages only", name, "invalid_value")
    return body


def read_detokenize(raw: bytes, *, lenient: bool = False) -> DetokenizeBody:
    """
    Raises:
        BadRequest: names the field.
    """
    return read_known(DetokenizeBody, read_object(raw), {}, (), lenient=lenient)
