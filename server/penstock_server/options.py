"""Reads what was asked: flags, then environment variables, then a TOML file, then the defaults, in this order.

The one file that reads the command line and the environment. Both, and the keys of the file, are made from the fields
of `EngineConfig` and `ServerConfig`; nothing else is known, and an unknown name is refused with the nearest known one.
"""

import argparse
import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from penstock_engine.config import EngineConfig
from penstock_server.settings import ServerConfig
from penstock_server.version import VERSION

PREFIX = "PENSTOCK_"

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class OptionError(Exception):
    """An option is unknown or has a value it cannot have; the message names it and where it stands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One field of a config as an option."""

    name: str
    hint: Any
    default: Any
    help: str
    is_size: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def kind(self) -> Any:
        """The type of a value, without `| None` and, for a repeatable option, of one of its values."""
        hint = self.hint
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        return typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else hint

    @property
    def is_repeatable(self) -> bool:
        return typing.get_origin(self.hint) is tuple

    @property
    def choices(self) -> tuple[str, ...] | None:
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else None

    def read(self, text: str) -> Any:
        """One value from its text.

        Raises:
            OptionError: says what would be right.
        """
        if self.choices is not None:
            if text not in self.choices:
                raise OptionError(f"must be one of {', '.join(self.choices)}, not {text!r}")
            return text
        if self.is_size:
            return read_size(text)
        if self.kind is bool:
            if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
                raise OptionError(f"must be true or false, not {text!r}")
            return text.lower() in ("1", "true", "yes", "on")
        if self.kind is str:
            return text
        wanted = "a whole number" if self.kind is int else "a number"
        try:
            return self._not_negative(self.kind(text))
        except ValueError:
            raise OptionError(f"must be {wanted}, not {text!r}") from None

    def read_toml(self, value: object) -> Any:
        """One value of a TOML file: of the option's own type, or a string where that type has a written form."""
        if self.is_repeatable:
            values = value if isinstance(value, list) else [value]
            return tuple(dataclasses.replace(self, hint=self.kind).read_toml(item) for item in values)
        if isinstance(value, str) and (self.kind is str or self.choices is not None or self.is_size):
            return self.read(value)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is float and is_number:
            return self._not_negative(float(typing.cast(float, value)))
        if self.kind in (int, bool) and type(value) is self.kind:
            return self._not_negative(value)
        raise OptionError(f"has the wrong type: {value!r}")

    def _not_negative(self, value: Any) -> Any:
        if not 0 <= value < math.inf:
            raise OptionError(f"must be zero or more, not {value}")
        return value


def read_size(text: str) -> int:
    """Bytes from `4194304`, `512MiB`, `4GiB`, `4GB`.

    Raises:
        OptionError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise OptionError(f"must be a number of bytes like 512MiB or 4GiB, not {text!r}")
    return int(float(match[1]) * unit)


def options_of(config: type[EngineConfig] | type[ServerConfig]) -> list[Option]:
    """The options that a config's fields make."""
    hints = typing.get_type_hints(config)
    return [
        Option(
            field.name,
            hints[field.name],
            field.default,
            field.metadata["help"],
            field.metadata.get("is_size", field.name.endswith(("_memory", "_bytes"))),
        )
        for field in dataclasses.fields(config)
    ]


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[EngineConfig, ServerConfig]:
    """The configs that `penstock serve` is to run with.

    Raises:
        OptionError: an option is unknown or wrong, wherever it stands, or no model was named.
        SystemExit: --help or --version.
    """
    namespace, rest = _parser().parse_known_args(arguments)
    if rest:
        flag = rest[0].partition("=")[0]
        known = [option.flag for option in _options().values()]
        raise OptionError(f"unknown argument {flag}" + _nearest(flag, [*known, "--config"]))
    flags = {key: value for key, value in vars(namespace).items() if key != "command"}
    from_environment = _read_environment(environment)
    file = flags.pop("config", None) or from_environment.pop("config", None)
    from_environment.pop("config", None)
    asked = (_read_file(Path(file)) if file else {}) | from_environment | flags
    if "model" not in asked:
        raise OptionError("no model: name a checkpoint folder, a hub id, or 'demo'")
    engine = {option.name for option in options_of(EngineConfig)}
    return (
        EngineConfig(**{name: value for name, value in asked.items() if name in engine}),
        ServerConfig(**{name: value for name, value in asked.items() if name not in engine}),
    )


def _options() -> dict[str, Option]:
    return {option.name: option for config in (EngineConfig, ServerConfig) for option in options_of(config)}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="penstock",
        description="An inference server for decoder-only language models: any decoding strategy, one batch.",
    )
    parser.add_argument("--version", action="version", version=f"penstock {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        usage="penstock serve MODEL [options]",
        description="Serve MODEL with an OpenAI-compatible API.",
        epilog=f"Every option is also a key of the --config file (kv_cache_memory = '4GiB') and an environment "
        f"variable ({PREFIX}KV_CACHE_MEMORY=4GiB). Flags win over variables, variables over the file.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    # For --help alone: `cli` hands what follows `chat` to the chat client before this parser sees it.
    commands.add_parser("chat", help="chat with a served model in the terminal", add_help=False)
    serve.add_argument("model", metavar="MODEL", nargs="?", help=_options()["model"].help)
    serve.add_argument("--config", metavar="FILE", help="TOML file with any of the options below")
    for title, config in (("HTTP server", ServerConfig), ("engine", EngineConfig)):
        group = serve.add_argument_group(title)
        for option in options_of(config):
            if option.name != "model":
                _add_flag(group, option)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all errors at start are said, and without its usage."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


def _add_flag(group: "argparse._ArgumentGroup", option: Option) -> None:
    shown = _shown_default(option)
    text = (option.help + shown).replace("%", "%%")
    if option.kind is bool:
        group.add_argument(option.flag, action=argparse.BooleanOptionalAction, help=text)
        return

    def read(value: str) -> Any:
        try:
            return option.read(value)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    metavar = "{" + ",".join(option.choices) + "}" if option.choices else _metavar(option)
    action = _Append if option.is_repeatable else "store"
    group.add_argument(option.flag, type=read, action=action, metavar=metavar, help=text)


class _Append(argparse.Action):
    """Collects a repeatable flag into a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), values))


def _shown_default(option: Option) -> str:
    if option.default is None or option.default == () or option.default is dataclasses.MISSING:
        return ""
    if option.is_size:
        return f" (default: {_written_size(option.default)})"
    if option.kind is bool:
        return f" (default: {'on' if option.default else 'off'})"
    value = f"{option.default:g}" if isinstance(option.default, float) else option.default
    return f" (default: {value})"


def _written_size(num_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes % size == 0:
            return f"{num_bytes // size}{unit}"
    return str(num_bytes)


def _metavar(option: Option) -> str:
    if option.is_size:
        return "SIZE"
    return {int: "N", float: "SECONDS"}.get(option.kind, option.name.split("_")[-1].upper())


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    options = _options()
    names = [*options, "config"]
    asked: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name == "config":
            asked[name] = text
            continue
        if name not in options:
            raise OptionError(f"unknown environment variable {variable}" + _nearest(name, names, PREFIX, str.upper))
        option = options[name]
        try:
            if option.is_repeatable:
                asked[name] = tuple(option.read(part) for part in text.split(",") if part)
            else:
                asked[name] = option.read(text)
        except OptionError as error:
            raise OptionError(f"environment variable {variable} {error}") from None
    return asked


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not TOML: {error}") from None
    options = _options()
    asked = {}
    for name, value in content.items():
        if name not in options:
            raise OptionError(f"{path}: unknown key {name}" + _nearest(name, options))
        try:
            asked[name] = options[name].read_toml(value)
        except OptionError as error:
            raise OptionError(f"{path}: {name} {error}") from None
    return asked


def _nearest(name: str, known: Iterable[str], prefix: str = "", written: "type[str] | Any" = str) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{written(close[0])}?" if close else ""
