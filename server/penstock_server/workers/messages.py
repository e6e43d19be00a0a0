"""What the parent and its workers say to each other, over a `Channel`. A question is followed by its answer."""

import msgspec

from penstock_engine.config import EngineInfo
from penstock_server.figures import Figures
from penstock_server.settings import ServerConfig


class Begin(msgspec.Struct, tag=True, frozen=True):
    """The first thing that a worker is told: what it is to do.

    Attributes:
        name: what it calls itself to the engine; no worker had it before.
        label: what it calls itself in the log.
        folder, plugins: where it loads the model's text side and the plug-ins from.
        keys: as for `ServerContext`, which has what the file held too.
        created: as for `ServerContext`.
    """

    name: bytes
    label: str
    config: ServerConfig
    folder: str
    model_names: tuple[str, ...]
    plugins: tuple[str, ...]
    keys: tuple[str, ...]
    created: int


class EngineUp(msgspec.Struct, tag=True, frozen=True):
    """An engine has loaded the model; `path` is its socket, another one for each engine."""

    path: str


class EngineDown(msgspec.Struct, tag=True, frozen=True):
    """There is no engine any more; `info` is of the one that was there."""

    reason: str
    info: EngineInfo


class Serving(msgspec.Struct, tag=True, frozen=True):
    """The worker takes requests."""


class Finish(msgspec.Struct, tag=True, frozen=True):
    """Drain and end; said again: end at once."""


class Count(msgspec.Struct, tag=True, frozen=True):
    """The parent asks for what one worker has counted; a worker for what all have."""


class Counted(msgspec.Struct, tag=True, frozen=True):
    figures: Figures


class Keep(msgspec.Struct, tag=True, frozen=True):
    """A response that is to be stored, and the conversation that it answers; both as JSON."""

    response_id: str
    response: bytes
    items: bytes


class Find(msgspec.Struct, tag=True, frozen=True):
    """A stored response is asked for."""

    response_id: str


class Found(msgspec.Struct, tag=True, frozen=True):
    """None: there is none of this id."""

    stored: tuple[bytes, bytes] | None


class Forget(msgspec.Struct, tag=True, frozen=True):
    """A stored response is to be forgotten."""

    response_id: str


class Forgotten(msgspec.Struct, tag=True, frozen=True):
    was_there: bool


class AskIfDone(msgspec.Struct, tag=True, frozen=True):
    """Answered at once. What was said before the answer has arrived when the answer has."""


class Done(msgspec.Struct, tag=True, frozen=True):
    pass


Message = (
    Begin
    | EngineUp
    | EngineDown
    | Serving
    | Finish
    | Count
    | Counted
    | Keep
    | Find
    | Found
    | Forget
    | Forgotten
    | AskIfDone
    | Done
)
