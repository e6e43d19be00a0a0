"""Texts in a body, each as a string or as token ids: what `prompt` of completions is, and `input` elsewhere."""

from typing import cast

from penstock_server.errors import BadRequest

Prompt = str | tuple[int, ...]

_SHAPES = "must be a string, a list of strings, a list of token ids, or a list of such lists"


def prompts_of(value: object, param: str) -> tuple[Prompt, ...]:
    """The texts of the field `param`. Token ids are checked to be numbers from 0 on, not to be in the vocabulary.

    Raises:
        BadRequest: names the item that is wrong.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise BadRequest(_SHAPES + "; not empty", param, "invalid_type")
    if isinstance(value[0], int):
        return (_read_token_ids(value, param),)
    prompts: list[Prompt] = []
    for i, item in enumerate(value):
        if isinstance(item, str) and isinstance(value[0], str):
            prompts.append(item)
        elif isinstance(item, list) and isinstance(value[0], list):
            prompts.append(_read_token_ids(item, f"{param}.{i}"))
        else:
            raise BadRequest(_SHAPES, f"{param}.{i}", "invalid_type")
    return tuple(prompts)


def params_of(prompts: tuple[Prompt, ...], param: str) -> list[str]:
    """Where in the body each of them stands."""
    return [param] if len(prompts) == 1 else [f"{param}.{i}" for i in range(len(prompts))]


def _read_token_ids(items: list[object], param: str) -> tuple[int, ...]:
    if not items:
        raise BadRequest("a list of token ids must not be empty", param, "invalid_value")
    # Passes in C over what may be a long list; the slow search only names the culprit.
    if set(map(type, items)) == {int} and min(cast(list[int], items)) >= 0:
        return tuple(cast(list[int], items))
    at = next(i for i, item in enumerate(items) if type(item) is not int or item < 0)
    raise BadRequest("must be a token id", f"{param}.{at}", "invalid_type")
