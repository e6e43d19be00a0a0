"""Variables of the chat template, given by their names and through a field that means one of them."""

from typing import Any

from penstock_server.errors import BadRequest

NAME = "chat_template_kwargs"


def with_variables(chat: dict[str, Any], meant: dict[str, Any], field: str) -> dict[str, Any]:
    """A chat request's fields with `meant`, fields that `field` stands for; template variables join those it has.

    Raises:
        BadRequest: a variable is given another value by its name.
    """
    given = chat.get(NAME)
    if NAME not in meant or not isinstance(given, dict):
        # What is no object is refused where chat requests are read.
        return chat | {name: value for name, value in meant.items() if name != NAME or given is None}
    for name, value in meant[NAME].items():
        if name in given and given[name] != value:
            raise BadRequest(f"{field} says otherwise", f"{NAME}.{name}", "invalid_value")
    return chat | meant | {NAME: meant[NAME] | given}


def is_given(param: str, given: object) -> bool:
    """Whether a path into the variables leads to one that the body gives by its name, or to all of them."""
    root, _, name = param.partition(".")
    return root == NAME and given is not None and (not isinstance(given, dict) or not name or name in given)
