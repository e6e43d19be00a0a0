"""A conversation as a file and back; what is not one is refused by name."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_chat import files
from penstock_chat.conversation import Conversation, Reply, Setup
from penstock_chat.errors import InputError
from penstock_chat.saved import Saved, read_saved, write_saved

SETUP = Setup("demo", "Be short.", {"temperature": 0.2, "decoding": {"strategy": "greedy"}})
CONVERSATION = (
    Conversation()
    .answered("What?\n你好", Reply("That.\x1b", SETUP, 7, "stop"))
    .answered("And?", Reply("Thi", Setup("other"), None, None, "stopped"))
    .asked("Why?")
)
SAVED = Saved("http://localhost:8000/v1", SETUP, CONVERSATION)


@pytest.mark.parametrize("saved", [SAVED, Saved("u", Setup("m"))])
def test_there_and_back(saved: Saved) -> None:
    assert read_saved(write_saved(saved)) == saved


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    value = json.loads(write_saved(SAVED))
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "this is not JSON"),
        ("[]", "not a conversation"),
        ("{}", "not a conversation"),
        ("[" * 100_000, "nested too deeply"),
        (changed(lambda value: value.update(version=2)), "version 2, and version 1 can be read"),
        (changed(lambda value: value.pop("settings")), "settings: is missing"),
        (changed(lambda value: value.update(model=None)), "model: must be a string"),
        (changed(lambda value: value.update(extra=1)), "extra: unknown field"),
        (changed(lambda value: value.update(settings=[])), "settings: must be an object"),
        (changed(lambda value: value["settings"].update(messages=[])), "settings: messages is not a setting"),
        (changed(lambda value: value["settings"].update(top_p=float("inf"))), "settings.top_p: a number"),
        (changed(lambda value: value["messages"].append(3)), "messages[5]: must be an object"),
        (changed(lambda value: value["messages"].pop(0)), "messages[0].role: must be user"),
        (changed(lambda value: value["messages"].pop(1)), "messages[1].role: must be assistant"),
        (changed(lambda value: value["messages"][1].update(seed="7")), "messages[1].seed: must be a whole number"),
        (changed(lambda value: value["messages"][1].update(seed=True)), "messages[1].seed: must be a whole number"),
        (changed(lambda value: value["messages"][1].update(ending="odd")), "messages[1].ending: must be one of"),
        (changed(lambda value: value["messages"][1].pop("content")), "messages[1].content: is missing"),
        (changed(lambda value: value["messages"][0].update(seed=1)), "messages[0].seed: unknown field"),
        (changed(lambda value: value["messages"][0].pop("role")), "messages[0].role: is missing"),
    ],
)
def test_refused(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_saved(text)
    assert told in caught.value.message


def test_a_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = files.save(str(tmp_path / "chat.json"), Saved("u", Setup("m")))
    files.save(str(path), SAVED)
    assert files.load(str(path)) == SAVED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["chat.json"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.save(str(tmp_path / "chat.json"), SAVED)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*chat.json: No space left on device"):
        files.save(str(path), Saved("u", Setup("m")))
    assert files.load(str(path)) == SAVED
    assert os.listdir(tmp_path) == ["chat.json"]


def test_no_other_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(InputError, match="is not a saved conversation"):
        files.save(str(path), SAVED)
    assert path.read_text() == "dear diary"


def test_a_link_is_followed(tmp_path: Path) -> None:
    target = files.save(str(tmp_path / "chat.json"), Saved("u", Setup("m")))
    link = tmp_path / "link.json"
    link.symlink_to(target)
    assert files.save(str(link), SAVED) == target
    assert link.is_symlink()
    assert files.load(str(target)) == SAVED


@pytest.mark.parametrize("name", ["", "a\0b", "missing/chat.json", "."])
def test_names_that_cannot_be_used(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        files.load(name)
    with pytest.raises(InputError):
        files.save(name, SAVED)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="not UTF-8"):
        files.load(str(tmp_path / "x"))
