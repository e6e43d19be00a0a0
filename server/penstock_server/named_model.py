"""`find_model`: from the MODEL of the command line to the checkpoint's folder, on disk by then."""

from dataclasses import dataclass
from pathlib import Path

from penstock_engine.config import NULL
from penstock_engine.errors import EngineStartError
from penstock_models.hub import resolve_folder

DEMO_MODEL = Path(__file__).parent / "demo_model"


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that was named. `folder`: its text side; `engine_model`: what the engine loads; `name`: for requests."""

    folder: Path
    engine_model: str
    name: str


def find_model(asked: str, revision: str | None) -> NamedModel:
    """Find what was asked for, and load it down if it is on the hub: that can take minutes.

    Raises:
        EngineStartError: a revision of what has none.
        HubError: there is no such checkpoint.
    """
    prefix, checkpoint = (NULL, asked.removeprefix(NULL) or "demo") if asked.startswith(NULL) else ("", asked)
    if checkpoint == "demo":
        if revision is not None:
            raise EngineStartError("the demo model comes with the server and has no revisions")
        return NamedModel(DEMO_MODEL, f"{prefix}{DEMO_MODEL}", asked.removesuffix(":"))
    folder = resolve_folder(checkpoint, revision)
    return NamedModel(folder, f"{prefix}{folder}", prefix + _default_name(checkpoint))


def _default_name(checkpoint: str) -> str:
    # A hub id is a name already; of a folder only the last part is anybody else's business.
    folder = Path(checkpoint).expanduser()
    return folder.resolve().name if folder.exists() else checkpoint
