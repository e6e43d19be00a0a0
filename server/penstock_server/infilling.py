"""Prompts with a suffix: laid out as the model has learned to fill in text, or refused."""

from collections.abc import Sequence

from penstock_engine.config import EngineInfo
from penstock_server.echo import Echo, echo_of
from penstock_server.errors import BadRequest
from penstock_server.model import ServedModel
from penstock_server.prompt_tokens import check_characters, encoded
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.prompts import params_of
from penstock_server.text.infill import Infill, suffix_tokens


def asked_infill(body: CompletionBody, model: ServedModel) -> Infill | None:
    """How the body's suffix is shown to the model; None if it has none.

    Raises:
        BadRequest: the model has no way to be shown one, or another field does not go with it.
    """
    if not body.suffix:
        return None
    if model.infill is None:
        told = "not supported by this model: its vocabulary has none of the known tokens for filling in text"
        raise BadRequest(told, "suffix", "unsupported_parameter")
    if body.truncate_prompt_tokens is not None:
        told = "cannot be had with suffix: what is cut off would be a part of the form that the prompt has then"
        raise BadRequest(told, "truncate_prompt_tokens", "invalid_value")
    if body.echo and body.num_logprobs is not None:
        told = "cannot be had with suffix and echo: the prompt's tokens are not those of the echoed text then"
        raise BadRequest(told, "logprobs", "invalid_value")
    return model.infill


def infill_prompts(
    body: CompletionBody, model: ServedModel, info: EngineInfo, infill: Infill
) -> tuple[list[Sequence[int]], tuple[Echo, ...]]:
    """The token ids of each prompt with the suffix, and what is echoed of it: the prompt without the suffix.

    A prompt of token ids is what comes before the gap, as it stands.

    Raises:
        BadRequest: names the prompt, or `suffix`.
    """
    prompts: list[Sequence[int]] = []
    echoes: list[Echo] = []
    tokenizer = model.codec.tokenizer
    check_characters(body.suffix, "suffix", model, info)
    suffix = suffix_tokens(body.suffix, tokenizer)
    for given, param in zip(body.prompt, params_of(body.prompt, "prompt"), strict=True):
        if given == "":  # the gap is where the text begins
            prefix: Sequence[int] = tokenizer.encode("", add_special_tokens=body.add_special_tokens)
        else:
            prefix = encoded(given, param, model, info, add_special_tokens=body.add_special_tokens)
        prompts.append(infill.prompt(prefix, suffix, tokenizer.bos_id))
        echoes.append(echo_of(body, given, prefix, model, is_cut=False))
    return prompts, tuple(echoes)
