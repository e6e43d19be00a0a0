"""The ways in which models write calls, and which of them a model has, by its chat template."""

from collections.abc import Callable
from typing import Protocol

from penstock_server.text.pieces import AnswerParser
from penstock_server.tools.hermes import HermesFormat
from penstock_server.tools.llama3 import Llama3Format
from penstock_server.tools.mistral import MistralArgsFormat, MistralFormat
from penstock_server.tools.offer import ToolOffer


class ToolFormat(Protocol):
    """One way. `marks`: texts that stand in an answer also where they are special tokens."""

    @property
    def name(self) -> str: ...

    @property
    def marks(self) -> tuple[str, ...]: ...

    def fits(self, template: str) -> bool:
        """Whether a model with this chat template writes calls like this."""
        ...

    def parser(self, offer: ToolOffer) -> AnswerParser:
        """The parts of one answer."""
        ...

    def grammar(self, offer: ToolOffer, mark: Callable[[str], str], content: str | None) -> str:
        """What an answer may be, in Lark: see `HermesFormat.grammar`."""
        ...


FORMATS: tuple[ToolFormat, ...] = (HermesFormat(), MistralArgsFormat(), MistralFormat(), Llama3Format())


def find_format(template: str) -> ToolFormat | None:
    """The first that fits the template, if it takes tools at all."""
    if "tools" not in template:
        return None
    return next((each for each in FORMATS if each.fits(template)), None)
