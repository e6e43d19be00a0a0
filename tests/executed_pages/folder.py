"""Where a page's commands run: a folder that looks like a fresh clone with its .venv set up, and a bare environment."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from executed_pages.page import ROOT
from executed_pages.ports import Ports

# What the page says in place of the folders that it ran in.
SHOWN_FOLDER = "/home/you/penstock"
SHOWN_HOME = "/home/you"

_NOT_LINKED = frozenset({".git", ".venv"})
# Nothing else is taken from the environment: no key, no proxy, no MAKEFLAGS of a `make test` that runs this. The
# last is how threads wait for one another, as tests/conftest.py has it for every process.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "TMPDIR", "USER", "GOMP_SPINCOUNT")


def make_folder(home: Path) -> Path:
    """`home`/penstock: links to all that the repository's root holds, and a .venv that `make` finds up to date."""
    folder = home / "penstock"
    folder.mkdir(parents=True)
    for entry in ROOT.iterdir():
        if entry.name not in _NOT_LINKED:
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.startswith("."):
            (folder / ".venv" / entry.name).symlink_to(entry)
    # The stamps of the Makefile, fresh: a test must not install anything.
    for stamp in (".runtime", ".dev"):
        (folder / ".venv" / stamp).touch()
    # `git clone` is not run; after it comes `cd penstock`.
    (folder / "penstock").symlink_to(".")
    return folder


def environment(folder: Path, ports: Ports, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a page's commands. The real port comes in where a page leaves the default one unsaid."""
    kept = {name: variables[name] for name in _KEPT_VARIABLES if name in variables}
    port = str(ports.actual[8000])
    return kept | {
        "PATH": f"{folder / '.venv' / 'bin'}:{variables['PATH']}",
        "HOME": str(folder.parent),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PORT": port,
        "PENSTOCK_PORT": port,
        "OPENAI_BASE_URL": f"http://localhost:{port}/v1",
    }


def shown_paths(text: str, folder: Path) -> str:
    """Output with the folders named as the page names them."""
    return text.replace(str(folder), SHOWN_FOLDER).replace(str(folder.parent), SHOWN_HOME)
