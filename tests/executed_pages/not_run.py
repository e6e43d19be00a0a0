"""Commands that pages may show and that no test can run: each with the reason, and with what is checked instead."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from executed_pages.page import ROOT


@dataclass(frozen=True, slots=True)
class NotRun:
    """`check` returns what is wrong with the command, or None."""

    pattern: re.Pattern[str]
    reason: str
    check: Callable[[str], str | None]


def not_run(command: str) -> NotRun | None:
    """The table's entry for a command; None if it is to be run."""
    return next((entry for entry in NOT_RUN if entry.pattern.match(command)), None)


def _check_clone(command: str) -> str | None:
    return None if re.fullmatch(r"git clone \S+( penstock)?", command) else "must be git clone and one address"


def _check_make(command: str) -> str | None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
    for word in shlex.split(command, comments=True)[1:]:
        variable, is_set, _ = word.partition("=")
        if is_set and f"$({variable})" not in makefile:
            return f"the Makefile knows no variable {variable}"
        if not is_set and word not in targets:
            return f"the Makefile has no target {word}"
    return None


def _check_install(command: str) -> str | None:
    return None if re.fullmatch(r"(\S*/)?(python -m )?pip install [\w.\[\]=<>' -]+", command) else "names no package"


def _check_docker(command: str) -> str | None:
    words = shlex.split(re.sub(r"^(?:\w+=\S+\s+)*", "", command))
    if words[:2] == ["docker", "build"]:
        return None if (ROOT / "Dockerfile").is_file() else "there is no Dockerfile"
    if words[:2] in (["docker", "compose"], ["docker-compose", *words[1:2]]):
        return _check_compose(words[2 if words[1] == "compose" else 1 :])
    return f"do not know how to check {' '.join(words[:2])}"


_COMPOSE_COMMANDS = frozenset({"up", "down", "build", "logs", "ps", "pull", "config", "restart", "stop", "run", "exec"})
# Flags that take a value as a word of its own.
_VALUED = frozenset({"--profile", "--env-file", "--file", "-f", "--timeout", "-t", "--tail", "--scale", "--format"})


def _check_compose(words: list[str]) -> str | None:
    path = ROOT / "docker-compose.yml"
    if not path.is_file():
        return "there is no docker-compose.yml"
    compose: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    services = compose.get("services", {})
    profiles = {name for service in services.values() for name in service.get("profiles", [])}
    plain = []
    at = 0
    while at < len(words):
        flag, _, value = words[at].partition("=")
        if flag in _VALUED and not value:
            value = words[at + 1] if at + 1 < len(words) else ""
            at += 1
        if flag == "--profile" and value not in profiles:
            return f"docker-compose.yml has no profile {value!r}; it has {', '.join(sorted(profiles))}"
        if flag in ("--env-file", "--file") and not (ROOT / value).exists():
            return f"there is no file {value}"
        if not flag.startswith("-"):
            plain.append(words[at])
        at += 1
    if not plain or plain[0] not in _COMPOSE_COMMANDS:
        return f"{plain[0] if plain else 'nothing'} is no compose command"
    named = plain[1:2] if plain[0] in ("run", "exec") else plain[1:]
    unknown = [name for name in named if name not in services]
    return f"docker-compose.yml has no service {unknown[0]!r}; it has {', '.join(services)}" if unknown else None


NOT_RUN = (
    NotRun(re.compile(r"make bench\b"), "keeps the machine busy for long; pages run the script itself", _check_make),
    NotRun(re.compile(r"make gpu-(check|bench)\b"), "needs an NVIDIA GPU", _check_make),
    NotRun(re.compile(r"git clone\b"), "the repository has no fixed address", _check_clone),
    NotRun(re.compile(r"make (test|check|lock|demo-model|clean|format)\b"), "it is what runs this test", _check_make),
    NotRun(
        re.compile(r"make chat\s*(\w+=\S+\s*)*$"), "waits for a person; chat blocks show conversations", _check_make
    ),
    NotRun(re.compile(r"(\S*/)?(python -m )?pip install\b"), "installs, over the network", _check_install),
    NotRun(re.compile(r"(\w+=\S+\s+)*docker\b"), "needs a Docker engine", _check_docker),
)
