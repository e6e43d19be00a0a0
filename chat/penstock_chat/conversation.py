"""`Conversation`: questions and their replies, as values. Adding, undoing and retrying make new conversations; none of
it knows a server or a terminal.

Invariant: only the last question can be without a reply, and it then stands in `unanswered`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from penstock_chat.errors import InputError
from penstock_chat.settings import Settings

Ending = Literal["finished", "stopped", "broken"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a question is asked with."""

    model: str
    system: str | None = None
    settings: Settings = field(default_factory=dict)

    def with_setting(self, name: str, value: Any) -> "Setup":
        return replace(self, settings={**self.settings, name: value})

    def without_setting(self, name: str) -> "Setup":
        return replace(self, settings={key: value for key, value in self.settings.items() if key != name})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, and all that is needed to ask for the same again.

    Attributes:
        seed: what it was drawn with, None where the server does not say and none was set.
        ending: `stopped` by the user, or `broken` off by a failure: then `text` is what had come.
    """

    text: str
    setup: Setup
    seed: int | None = None
    finish_reason: str | None = None
    ending: Ending = "finished"


@dataclass(frozen=True, slots=True)
class Exchange:
    question: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Conversation:
    """Exchanges, and perhaps a question whose reply failed."""

    exchanges: tuple[Exchange, ...] = ()
    unanswered: str | None = None

    def messages(self, system: str | None, question: str) -> list[Mapping[str, str]]:
        """The messages of a request that asks `question` next; an unanswered one before it is not sent."""
        messages = [{"role": "system", "content": system}] if system else []
        for exchange in self.exchanges:
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.reply.text})
        return [*messages, {"role": "user", "content": question}]

    def answered(self, question: str, reply: Reply) -> "Conversation":
        return Conversation((*self.exchanges, Exchange(question, reply)))

    def asked(self, question: str) -> "Conversation":
        """With a question that got no reply."""
        return Conversation(self.exchanges, question)

    def undone(self) -> "Conversation":
        """Without its last question and the reply to it.

        Raises:
            InputError: there is nothing to take back.
        """
        if self.unanswered is not None:
            return Conversation(self.exchanges)
        if not self.exchanges:
            raise InputError("there is nothing to take back")
        return Conversation(self.exchanges[:-1])

    def last_question(self) -> str:
        """
        Raises:
            InputError: nothing was asked yet.
        """
        if self.unanswered is not None:
            return self.unanswered
        if not self.exchanges:
            raise InputError("nothing was asked yet")
        return self.exchanges[-1].question

    def before(self, number: int) -> "Conversation":
        """What stood before exchange `number`, counted from 1."""
        return Conversation(self.exchanges[: number - 1])

    def exchange(self, number: int) -> Exchange:
        """
        Raises:
            InputError: there is no such exchange.
        """
        if not 1 <= number <= len(self.exchanges):
            told = f"there are {len(self.exchanges)} replies" if self.exchanges else "there are no replies yet"
            raise InputError(f"there is no reply {number}: {told}")
        return self.exchanges[number - 1]


def request_body(conversation: Conversation, question: str, setup: Setup) -> dict[str, Any]:
    """The JSON body that asks `question` after `conversation`."""
    return {"model": setup.model, "messages": conversation.messages(setup.system, question), **setup.settings}
