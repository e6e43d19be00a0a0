"""Checks of blocks that are not run: what each format must be. Every checker raises `FormatError`."""

import configparser
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from executed_pages.page import ROOT

from penstock_decoding.errors import ParameterError
from penstock_decoding.params import read_decoding
from penstock_server.errors import BadRequest
from penstock_server.options import OptionError, read_options
from penstock_server.schemas.read import read_chat, read_completion

# Larger than any token id on a page, so that only the field itself is checked.
VOCAB_SIZE = 2**20


class FormatError(Exception):
    """A block is not what its kind says."""


def check_json(text: str) -> None:
    """JSON; what looks like a request must be one that the server takes."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise FormatError(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        return
    raw = json.dumps(value).encode()
    try:
        if "messages" in value and "model" in value:
            _check_decoding(read_chat(raw).decoding_fields())
        elif "prompt" in value and "model" in value:
            _check_decoding(read_completion(raw).decoding_fields())
        elif value.keys() == {"decoding"}:
            _check_decoding(value)
    except BadRequest as error:
        raise FormatError(f"is no request that the server takes: {error.param}: {error.message}") from None
    except ParameterError as error:
        raise FormatError(f"is no request that the server takes: {error.param}: {error.message}") from None


def _check_decoding(fields: Mapping[str, object]) -> None:
    read_decoding(fields, vocab_size=VOCAB_SIZE)


def check_yaml(text: str) -> None:
    """YAML that its safe loader takes."""
    try:
        yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FormatError(f"is not YAML: {error}") from None


def check_toml(text: str) -> None:
    """A file for `penstock serve --config`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "penstock.toml"
        path.write_text(text, encoding="utf-8")
        model = [] if re.search(r"^model\s*=", text, re.MULTILINE) else ["demo"]
        _check_options(["serve", *model, "--config", str(path)])


def check_ini(text: str) -> None:
    """A systemd unit whose penstock commands have known flags."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have case
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise FormatError(f"is no ini file: {error}") from None
    for section in parser.sections():
        for key, value in parser.items(section):
            words = shlex.split(value) if key == "ExecStart" else []
            if len(words) > 1 and words[0].rpartition("/")[2] == "penstock":
                _check_options(words[1:])


def _check_options(arguments: list[str]) -> None:
    try:
        read_options(arguments, {})
    except OptionError as error:
        raise FormatError(f"penstock would refuse it: {error}") from None
    except SystemExit:
        raise FormatError(f"penstock would refuse it: {' '.join(arguments)}") from None


_NGINX_DIRECTIVE = re.compile(r"[a-z_]+(?:\s+(?:\"[^\"]*\"|'[^']*'|[^;{}\"'\s]+))*")


def check_nginx(text: str) -> None:
    """Directives that end in a semicolon or open a block, and blocks that close."""
    depth = 0
    bare = "\n".join(line.partition("#")[0] for line in text.splitlines())
    for statement, end in re.findall(r"([^;{}]*)([;{}])", bare):
        is_empty = not statement.strip()
        if end == "}" and not is_empty:
            raise FormatError(f"is no nginx configuration: {statement.strip()!r} lacks its semicolon")
        if end != "}" and not _NGINX_DIRECTIVE.fullmatch(statement.strip()):
            raise FormatError(f"is no nginx configuration: {statement.strip()!r} is no directive")
        depth += {"{": 1, "}": -1, ";": 0}[end]
        if depth < 0:
            raise FormatError("is no nginx configuration: a block closes that never opened")
    if depth or re.sub(r"[^;{}]*[;{}]", "", bare).strip():
        raise FormatError("is no nginx configuration: it stops in the middle")


def check_env(text: str) -> None:
    """Lines of NAME=value, as in compose's .env; a PENSTOCK_ variable must be a known option with a good value."""
    variables = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, is_assigned, value = line.partition("=")
        if not is_assigned or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise FormatError(f"is no list of variables: {line!r}")
        variables[name] = value
    try:
        read_options(["serve", "demo"], variables)
    except OptionError as error:
        raise FormatError(f"penstock would refuse it: {error}") from None


def check_text(text: str) -> None:
    """A drawing; never commands, which would then not be run."""
    if re.search(r"^\$ ", text, re.MULTILINE):
        raise FormatError("holds a command; commands stand in console blocks")


def check_excerpt(text: str, path: str) -> None:
    """Lines that stand, in this order and without a gap, in a file of the repository."""
    file = ROOT / path
    if not file.is_file():
        raise FormatError(f"there is no file {path}")
    wanted = [line.strip() for line in text.splitlines()]
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    if not any(lines[at : at + len(wanted)] == wanted for at in range(len(lines))):
        raise FormatError(f"does not stand in {path}")


def check_promql(text: str, known_metrics: set[str]) -> None:
    """A query a line, over metrics that the server has."""
    for line in filter(str.strip, text.splitlines()):
        for opening, closing in ("()", "[]", "{}"):
            if line.count(opening) != line.count(closing):
                raise FormatError(f"is no query: {line!r} does not close what it opens")
        names = set(re.findall(r"\bpenstock_\w+", line))
        unknown = names - known_metrics
        if not names or unknown:
            raise FormatError(f"{line!r} asks for {', '.join(sorted(unknown)) or 'no metric'}, which /metrics lacks")


CHECKERS: Mapping[str, Callable[[str], Any]] = {
    "json": check_json,
    "yaml": check_yaml,
    "toml": check_toml,
    "ini": check_ini,
    "nginx": check_nginx,
    "env": check_env,
    "text": check_text,
}
