"""`Chat`: a running conversation with a server, without a terminal. What the commands and the prompt act on.

Invariants: a reply that was kept is only replaced by another one that has text; a failure never loses a question.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from penstock_chat.connection import Connection
from penstock_chat.conversation import Conversation, Exchange, Reply, Setup
from penstock_chat.errors import InputError, Refused
from penstock_chat.receive import Received, ReplyView, receive, unless_stopped

# Below 2**31, which every server takes: some hold a seed in 32 bits.
MAX_SEED = 2**31


class Screen(Protocol):
    """What a chat is shown on."""

    def note(self, text: str) -> None:
        """Something about the conversation, not of it."""
        ...

    def error(self, text: str) -> None: ...

    def exchange(self, number: int, exchange: Exchange) -> None:
        """A question and its reply, as they stand in the conversation."""
        ...

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and what they mean."""
        ...

    def reply(self) -> ReplyView: ...

    def replies(self, titles: tuple[str, str]) -> tuple[ReplyView, ReplyView]:
        """Two replies side by side."""
        ...

    def figures(self, received: Received, title: str = "") -> None:
        """The line after a reply: what it took, how it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """Two replies to one question, of which one may be kept."""

    before: Conversation
    question: str
    replies: tuple[Reply | None, Reply | None]


class Chat:
    """The state that commands change: `setup`, `conversation`, `candidates`.

    Attributes:
        models: names that the server listed, for completion.
        stop: set to end the reply that is coming.
    """

    def __init__(self, connection: Connection, screen: Screen, setup: Setup, models: Sequence[str] = ()) -> None:
        self.connection = connection
        self.screen = screen
        self.setup = setup
        self.models = tuple(models)
        self.candidates: Candidates | None = None
        self.stop = asyncio.Event()
        self._conversation = Conversation()

    @property
    def conversation(self) -> Conversation:
        return self._conversation

    @conversation.setter
    def conversation(self, conversation: Conversation) -> None:
        # Replies to another conversation's question cannot be kept in this one.
        self._conversation, self.candidates = conversation, None

    async def ask(self, question: str) -> None:
        """Ask what comes next, and add question and reply to the conversation."""
        received = await self._receive(self.conversation, question, self.setup, self.screen.reply())
        if received.reply is not None:
            self.conversation = self.conversation.answered(question, received.reply)
        else:
            self.conversation = self.conversation.asked(question)
        self._tell(received)

    async def retry(self) -> None:
        """Ask the last question again; its reply so far is replaced when the new one has text.

        Raises:
            InputError: nothing was asked yet.
        """
        question, before = self.conversation.last_question(), self.conversation.undone()
        received = await self._receive(before, question, self.setup, self.screen.reply())
        if received.reply is not None:
            self.conversation = before.answered(question, received.reply)
        self._tell(received)

    async def replay(self, number: int) -> None:
        """Ask for reply `number` again with all that it was asked with, and say whether the same came. Keeps nothing.

        Raises:
            InputError: there is no such reply.
        """
        exchange = self.conversation.exchange(number)
        old = exchange.reply
        setup = old.setup if old.seed is None else old.setup.with_setting("seed", old.seed)
        before = self.conversation.before(number)
        received = await self._receive(before, exchange.question, setup, self.screen.reply())
        self.screen.figures(received)
        if received.failure is not None:
            self.screen.error(received.failure.message)
        elif received.reply is not None:
            self.screen.note(_likeness(old, received.reply))

    async def compare(self, setups: tuple[Setup, Setup], titles: tuple[str, str], question: str | None) -> None:
        """Ask one question with two setups at once, from the same seed; `keep` takes one of the replies.

        Args:
            question: None asks the last one again.

        Raises:
            InputError: nothing was asked yet.
        """
        before = self.conversation
        if question is None:
            question, before = before.last_question(), before.undone()
        first, second = same_seed(setups)
        views = self.screen.replies(titles)
        both = await asyncio.gather(
            self._receive(before, question, first, views[0]), self._receive(before, question, second, views[1])
        )
        for title, received in zip("12", both, strict=True):
            self.screen.figures(received, title)
            if received.failure is not None:
                self.screen.error(f"{title}: {received.failure.message}")
        if any(received.reply is not None for received in both):
            self.candidates = Candidates(before, question, (both[0].reply, both[1].reply))
            self.screen.note("/keep 1 or /keep 2 takes that reply into the conversation")

    def keep(self, number: int) -> None:
        """Put one of two compared replies into the conversation.

        Raises:
            InputError: there is none.
        """
        if self.candidates is None:
            raise InputError("there is nothing to keep: /compare shows two replies")
        reply = self.candidates.replies[number - 1]
        if reply is None:
            raise InputError(f"reply {number} failed; there is nothing of it")
        self.conversation = self.candidates.before.answered(self.candidates.question, reply)

    async def refresh_models(self) -> None:
        """Ask the server which models it has.

        Raises:
            ServerError
            InputError: the user did not want to wait.
        """

        async def ask() -> None:
            self.models = await self.connection.models()

        if not await unless_stopped(self.stop, ask()):
            raise InputError("stopped")

    async def _receive(self, before: Conversation, question: str, setup: Setup, view: ReplyView) -> Received:
        return await receive(self.connection, before, question, setup, view, self.stop)

    def _tell(self, received: Received) -> None:
        """The end of a reply: its figures, what went wrong, and what the user can do about it."""
        self.screen.figures(received)
        if received.failure is not None:
            self.screen.error(received.failure.message)
        if received.failure is None and received.reply is not None:
            return
        field = received.failure.param if isinstance(received.failure, Refused) else None
        setting = (field or "").partition(".")[0].partition("[")[0]
        if setting in self.setup.settings:
            self.screen.note(f"/set {setting} VALUE or /unset {setting} changes it, /retry asks again")
        else:
            self.screen.note("your message is kept: /retry asks again, /undo takes it back")


def same_seed(setups: tuple[Setup, Setup]) -> tuple[Setup, Setup]:
    """Both with the seed that one of them has set, or else with a new one; two that are set stay as they are."""
    seeds = [setup.settings["seed"] for setup in setups if setup.settings.get("seed") is not None]
    seed = seeds[0] if seeds else secrets.randbelow(MAX_SEED)
    first, second = (
        setup if setup.settings.get("seed") is not None else setup.with_setting("seed", seed) for setup in setups
    )
    return first, second


def overridden(setup: Setup, changes: dict[str, object]) -> Setup:
    """The setup with changed settings; `model` and `system` among the changes replace those.

    Raises:
        InputError: the model or the system message is no text.
    """
    settings = {**setup.settings, **changes}
    texts: dict[str, str] = {}
    for name in ("model", "system"):
        if name in changes:
            value = settings.pop(name)
            if not isinstance(value, str):
                raise InputError(f"{name}: must be text, not {value!r}")
            texts[name] = value
    return replace(
        setup,
        settings=settings,
        model=texts.get("model", setup.model),
        system=texts.get("system", setup.system) or None,
    )


def _likeness(old: Reply, new: Reply) -> str:
    """Whether a replay gave the same."""
    unknown = (
        "" if old.seed is not None else " (the server does not say its seeds: only greedy replies can be the same)"
    )
    if new.ending == "stopped":
        same = old.text.startswith(new.text)
        return "stopped: the same so far" if same else "stopped, and not the same so far" + unknown
    if old.ending != "finished" and new.text.startswith(old.text):
        return "the same as far as the first one went"
    if new.text == old.text:
        return "the same reply"
    common = next((i for i, (a, b) in enumerate(zip(old.text, new.text, strict=False)) if a != b), None)
    place = min(len(old.text), len(new.text)) if common is None else common
    return f"not the same: it differs from character {place + 1} on{unknown}"
