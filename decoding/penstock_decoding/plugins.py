"""Plug-ins: processors and strategies that did not come with Penstock, added to a catalogue when a server starts.

A plug-in is a class that declares its `name`, its `Params` and the interface of a `Processor` or a `Strategy`; what it
is follows from its methods. Installed packages offer theirs by entry points; whoever starts the server names files and
modules. A class that could not work is refused here, in one line that names where it is from, and not by a request.

Only the operator's own code is ever loaded: nothing that a request holds is imported, executed or used as a path.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from penstock_decoding.catalogue import SHIPPED, Catalogue, Kind
from penstock_decoding.errors import PluginError
from penstock_decoding.processor import Processor
from penstock_decoding.read import unreadable_field
from penstock_decoding.strategy import Strategy

ENTRY_POINTS: dict[str, Kind] = {"penstock.processors": "processor", "penstock.strategies": "strategy"}

# What makes a class one or the other.
_METHODS: dict[Kind, tuple[str, ...]] = {"processor": ("plan",), "strategy": ("draw", "advance", "drop")}
_STATEFUL = ("fork", "rollback", "release")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Keys that stand beside a strategy's own parameters in `decoding`.
_TAKEN_FIELDS = ("strategy", "chain")


@dataclass(frozen=True, slots=True)
class _Found:
    """A class offered as a plug-in, and where it is from, in words for the operator."""

    cls: type[Any]
    origin: str


def load_plugins(named: Iterable[str | type[Any]] = (), base: Catalogue = SHIPPED) -> Catalogue:
    """The catalogue with every installed plug-in and those named here.

    Args:
        named: a file (`folder/mine.py`), a module (`package.mine`), one class of either (`folder/mine.py:Mine`,
            `package.mine:Mine`), or a class.

    Raises:
        PluginError: one cannot be loaded, is no plug-in, or has a name that is taken.
    """
    had_torch = "torch" in sys.modules
    processors: dict[str, type[Processor]] = dict(base.processors)
    strategies: dict[str, type[Strategy]] = dict(base.strategies)
    tables: dict[Kind, dict[str, Any]] = {"processor": processors, "strategy": strategies}
    origins = dict(base.origins)
    for found in (*_installed(), *(found for one in named for found in _named(one))):
        kind = _checked_kind(found)
        name = found.cls.name
        if name in tables[kind]:
            taken = origins.get((kind, name), "Penstock itself")
            raise PluginError(f"{found.origin}: there is a {kind} {name!r} already, from {taken}")
        tables[kind][name] = found.cls
        origins[kind, name] = found.origin
        if not had_torch and "torch" in sys.modules:
            # The process that reads requests never loads torch: seconds at start and hundreds of megabytes.
            raise PluginError(f"{found.origin}: imports torch; import it inside the functions that use it")
    return Catalogue(
        MappingProxyType(processors), MappingProxyType(strategies), base.default_order, MappingProxyType(origins)
    )


def _installed() -> Iterator[_Found]:
    for group, kind in ENTRY_POINTS.items():
        for entry in importlib.metadata.entry_points(group=group):
            origin = f"entry point {entry.name!r} of {group}"
            try:
                cls = entry.load()
            except (Exception, SystemExit) as error:
                raise _not_loaded(origin, error) from error
            if not inspect.isclass(cls) or _kind_of(cls) != kind:
                raise PluginError(f"{origin}: {entry.value} is not a {kind} class")
            yield _Found(cls, origin)


def _named(one: str | type[Any]) -> list[_Found]:
    if not isinstance(one, str):
        return [_Found(one, f"{one.__module__}.{one.__qualname__}")]
    place, _, wanted = one.rpartition(":") if re.search(r":\w+$", one) else (one, "", "")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if wanted:
        cls = getattr(module, wanted, None)
        if not inspect.isclass(cls):
            raise PluginError(f"{place}: there is no class {wanted!r} in it")
        return [_Found(cls, one)]
    own = [cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__]
    offered = [cls for cls in own if _kind_of(cls) is not None and not cls.__name__.startswith("_")]
    if not offered:
        raise PluginError(f"{place}: there is no processor and no strategy in it")
    return [_Found(cls, place) for cls in offered]


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"{path}: there is no such file")
    name = f"penstock_plugin_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "every .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    # Annotations are resolved through the table of modules.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _not_loaded(str(path), error) from error
    return module


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _not_loaded(name, error) from error


def _not_loaded(origin: str, error: BaseException) -> PluginError:
    told = " ".join(str(error).split())
    return PluginError(f"{origin}: cannot be loaded: {type(error).__name__}" + (f": {told}" if told else ""))


def _kind_of(cls: type[Any]) -> Kind | None:
    for kind, methods in _METHODS.items():
        if all(callable(getattr(cls, method, None)) for method in methods):
            return kind
    return None


def _checked_kind(found: _Found) -> Kind:
    """What the class is.

    Raises:
        PluginError: it is neither, or lacks something.
    """
    cls = found.cls
    where = f"{found.origin}: class {cls.__name__}"
    kind = _kind_of(cls)
    if kind is None:
        raise PluginError(f"{where} has neither a processor's plan() nor a strategy's draw(), advance() and drop()")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{where} needs a name of small letters, digits and underscores, like name = 'top_k'")
    _check_params(where, kind, getattr(cls, "Params", None))
    try:
        inspect.signature(cls).bind(*(["params"] if kind == "strategy" else []))
    except TypeError:
        taken = "exactly its params" if kind == "strategy" else "no argument"
        raise PluginError(f"{where} must be made with {taken}") from None
    present = [method for method in _STATEFUL if callable(getattr(cls, method, None))]
    if kind == "processor" and present and len(present) < len(_STATEFUL):
        missing = next(method for method in _STATEFUL if method not in present)
        raise PluginError(f"{where} has {present[0]}() but no {missing}(); what remembers sequences needs all three")
    return kind


def _check_params(where: str, kind: Kind, params: object) -> None:
    if not isinstance(params, type) or not dataclasses.is_dataclass(params):
        raise PluginError(f"{where} needs Params, a frozen dataclass of its parameters")
    if not params.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # every dataclass has them
        raise PluginError(f"{where}: its Params must be frozen: @dataclass(frozen=True)")
    try:
        unreadable = unreadable_field(params)
    except Exception as error:
        raise _not_loaded(where, error) from error
    if unreadable is not None:
        raise PluginError(f"{where}: its parameter {unreadable!r} has a type that JSON cannot give it")
    if kind == "strategy":
        fields = typing.get_type_hints(params)
        if fields.get("n") not in (int, int | None):
            raise PluginError(f"{where}: its Params need a field n: int, the number of answers")
        taken = next((field for field in _TAKEN_FIELDS if field in fields), None)
        if taken is not None:
            raise PluginError(f"{where}: its parameter cannot be called {taken!r}, which means something else there")
