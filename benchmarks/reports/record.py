"""`Record`: a result's JSON, read with errors that name the file and the field."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn


class BadResult(Exception):
    """A file of results is not what its benchmark writes; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class Record:
    """An object within a result. `source` is the file, `path` the way to the object, `digest` the whole file's."""

    source: Path
    value: dict[str, Any]
    digest: str
    path: str = ""

    def number(self, name: str) -> float:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.refuse(name, "a finite number")
        return float(value)

    def count(self, name: str) -> int:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, "a whole number")
        return int(value)

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            self.refuse(name, "a text")
        return str(value)

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return bool(value)

    def has(self, name: str) -> bool:
        """Whether there is such a field and it is not null."""
        return self.value.get(name) is not None

    def part(self, name: str) -> "Record":
        return self._within(name, self._get(name))

    def parts(self, name: str) -> list["Record"]:
        """The objects of a list that is not empty."""
        values = self._get(name)
        if not isinstance(values, list) or not values:
            self.refuse(name, "a list that is not empty")
        return [self._within(f"{name}[{i}]", value) for i, value in enumerate(values)]

    def named_parts(self, name: str) -> Iterator[tuple[str, "Record"]]:
        """The objects of an object, by name, in their order."""
        return self.part(name).every_part()

    def every_part(self) -> Iterator[tuple[str, "Record"]]:
        """All fields, which are objects, in their order."""
        return ((name, self.part(name)) for name in self.value)

    def every_number(self) -> Iterator[tuple[str, float]]:
        """All fields, which are numbers, in their order."""
        return ((name, self.number(name)) for name in self.value)

    def _get(self, name: str) -> Any:
        if name not in self.value:
            raise BadResult(f"{self.source}: {self._full(name)} is missing")
        return self.value[name]

    def _within(self, name: str, value: Any) -> "Record":
        if not isinstance(value, dict):
            self.refuse(name, "an object")
        return Record(self.source, value, self.digest, self._full(name))

    def refuse(self, name: str, wanted: str) -> NoReturn:
        """Raise for a field that is not what was wanted."""
        raise BadResult(f"{self.source}: {self._full(name)} is not {wanted}")

    def _full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def read_record(path: Path) -> Record:
    """The result in a file.

    Raises:
        BadResult: the file holds no JSON object.
    """
    content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BadResult(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadResult(f"{path}: not a JSON object")
    return Record(path, value, hashlib.sha256(content).hexdigest())
