"""A prompt's token ids, and what can be wrong with them: told before the engine is asked, by the field's name."""

from collections.abc import Sequence

from penstock_engine.config import EngineInfo
from penstock_server.errors import BadRequest, NotFound
from penstock_server.model import ServedModel
from penstock_server.schemas.prompts import Prompt

# Encoding runs at some MB/s: below this it takes less time than handing it to a thread and back is worth.
LONG_TEXT = 4096

# Numbers that one reply tells of prompts' tokens. Each takes some hundred bytes, and more while they are collected; a
# body of token ids within its bounds could ask for a hundred times as many.
MAX_TOLD = 2**21


def is_long(prompts: Sequence[Prompt]) -> bool:
    """Whether these are better encoded in a thread."""
    return sum(len(prompt) for prompt in prompts if isinstance(prompt, str)) > LONG_TEXT


def encoded(
    prompt: Prompt,
    param: str,
    model: ServedModel,
    info: EngineInfo,
    *,
    add_special_tokens: bool = True,
    is_cut: bool = False,
) -> Sequence[int]:
    """The prompt's token ids, at least one. `is_cut`: it may be longer than the context, since it is truncated then.

    Raises:
        BadRequest: names the prompt by `param`, or the token id in it.
    """
    if not isinstance(prompt, str):
        if max(prompt) >= info.vocab_size:
            at = next(i for i, token_id in enumerate(prompt) if token_id >= info.vocab_size)
            check_token_id(prompt[at], f"{param}.{at}", info)
        return prompt
    if not is_cut:
        check_characters(prompt, param, model, info)
    ids = model.codec.tokenizer.encode(prompt, add_special_tokens=add_special_tokens)
    if ids:
        return ids
    # OpenAI reads an empty prompt as the beginning of a document.
    bos_id = model.codec.tokenizer.bos_id
    if bos_id is None:
        raise BadRequest("must not be empty: this model has no token that begins a text", param, "invalid_value")
    return [bos_id]


def check_told(num_tokens: int, num_top: int, param: str, num_times: int = 1) -> None:
    """`num_tokens`: prompt tokens whose log-probabilities are told so many times, each with `num_top` others.

    Raises:
        BadRequest: the reply would be too large.
    """
    num_told = num_tokens * (num_top + 1) * num_times
    if num_told > MAX_TOLD:
        told = f"would tell {num_told} log-probabilities of prompt tokens, more than {MAX_TOLD}: ask for less at once"
        raise BadRequest(told, param, "invalid_value")


def check_model(name: str, model: ServedModel) -> None:
    """
    Raises:
        NotFound: the model has no such name.
    """
    if name not in model.names:
        raise NotFound(f"the model {name!r} does not exist", "model", "model_not_found")


def check_characters(text: str, param: str, model: ServedModel, info: EngineInfo) -> None:
    """
    Raises:
        BadRequest: the text is longer than the context, whatever its tokens are.
    """
    # A megabyte of text takes a second to encode only to be refused; its length alone already tells.
    fewest = len(text) // model.codec.tokenizer.longest_token
    if len(text) > LONG_TEXT and fewest > info.max_model_len:
        raise BadRequest(
            f"the prompt has {len(text)} characters, at least {fewest} tokens; "
            f"the model's context has {info.max_model_len}",
            param,
            "context_length_exceeded",
        )


def check_token_id(token_id: int, param: str, info: EngineInfo) -> None:
    """
    Raises:
        BadRequest: the vocabulary has no such token.
    """
    if token_id >= info.vocab_size:
        raise BadRequest(f"{token_id} is not a token id: the vocabulary has {info.vocab_size}", param, "invalid_value")
