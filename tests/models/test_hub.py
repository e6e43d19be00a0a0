"""Finding a checkpoint folder: on this machine, and from a hub played by an HTTP server on loopback.

The hub library reads its environment when it is imported, so each request to the hub runs in a process of its own.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock_models.hub import HubError, resolve_folder

HUB_ID = "org/tiny"
MAIN, OLD = "a" * 40, "b" * 40
FILES = {
    MAIN: {
        "config.json": b'{"at": "main"}',
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": b"weights of main",
        "consolidated.safetensors": b"the same weights again",
        "adapter_config.json": b"{}",
        "pytorch_model.bin": b"a pickle",
        "model.pth": b"a pickle",
        "model.gguf": b"another format",
        "modeling_tiny.py": b"raise SystemExit('executed')",
        "README.md": b"# Tiny",
        "onnx/config.json": b"{}",
        "original/model.safetensors": b"the same weights a third time",
    },
    OLD: {"config.json": b'{"at": "old"}', "model.safetensors": b"weights of old"},
}
SERVED = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}


@dataclass
class Hub:
    """What the stand-in shows, and what it was asked."""

    url: str
    revisions: dict[str, str] = field(default_factory=lambda: {"main": MAIN, "v1": OLD, MAIN: MAIN, OLD: OLD})
    files: dict[str, dict[str, bytes]] = field(default_factory=lambda: {key: dict(FILES[key]) for key in FILES})
    refusal: tuple[int, str] | None = None  # status and X-Error-Code of every answer
    requests: list[str] = field(default_factory=list)
    tokens: dict[str, str | None] = field(default_factory=dict)  # by line of `requests`

    def fetched(self) -> set[str]:
        """The files whose contents were asked for."""
        return {line.rsplit("/", 1)[-1] for line in self.requests if line.startswith("GET /cdn/")}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, _Server)
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        line = f"{self.command} {path}"
        self.hub.requests.append(line)
        self.hub.tokens[line] = self.headers["authorization"]
        if self.hub.refusal is not None:
            status, code = self.hub.refusal
            self._send(status, headers={"X-Error-Code": code})
        elif match := re.fullmatch(rf"/api/models/{HUB_ID}(?:/revision/([^/]+))?", path):
            commit = self.hub.revisions.get(match[1] or "main")
            if commit is None:
                self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
            else:
                self._send_json({"id": HUB_ID, "sha": commit, "siblings": [], "tags": [], "downloads": 0, "likes": 0})
        elif match := re.fullmatch(rf"/api/models/{HUB_ID}/tree/([^/]+)", path):
            self._send_json([_tree_entry(name, data) for name, data in self.hub.files[match[1]].items()])
        elif match := re.fullmatch(rf"/{HUB_ID}/resolve/([^/]+)/(.+)", path):
            # Like the real hub: facts in the headers of a redirect to another host, where the contents lie.
            data = self.hub.files[match[1]][match[2]]
            self._send(
                302,
                headers={
                    "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{match[1]}/{match[2]}",
                    "ETag": f'"{_digest(data)}"',
                    "X-Linked-Size": str(len(data)),
                    "X-Repo-Commit": match[1],
                },
            )
        elif match := re.fullmatch(r"/cdn/([^/]+)/(.+)", path):
            self._send(200, self.hub.files[match[1]][match[2]])
        else:
            self._send(404, headers={"X-Error-Code": "RepoNotFound"})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(HTTPStatus(status))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    hub: Hub


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _tree_entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.hub
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Answer:
    """What `resolve_folder` gave in a process of its own."""

    folder: Path | None
    error: str


_ASK = """
import sys
from penstock_models.hub import HubError, resolve_folder
try:
    print("folder", resolve_folder(sys.argv[1], sys.argv[2] or None))
except HubError as error:
    print("error", error)
"""


def ask(hub: Hub, home: Path, revision: str = "", hub_id: str = HUB_ID, **environment: str) -> Answer:
    """Resolve a hub id with `home` as the cache, in a fresh process."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LD_LIBRARY_PATH")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ASK, hub_id, revision],
        env={**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kind, _, text = done.stdout.strip().partition(" ")
    return Answer(Path(text), "") if kind == "folder" else Answer(None, text)


def test_a_local_folder_costs_neither_torch_nor_the_hub_library(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_folder(str(tmp_path)) == tmp_path
    script = (
        "import sys; from penstock_models.hub import resolve_folder; resolve_folder(sys.argv[1]);"
        "print(sorted({'torch', 'huggingface_hub', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_named_like_a_hub_id_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(HUB_ID).mkdir(parents=True)
    (Path(HUB_ID) / "config.json").write_text("{}")
    assert resolve_folder(HUB_ID) == Path(HUB_ID)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/nowhere/model", "there is no folder '/nowhere/model'"),
        ("./model", "there is no folder './model'"),
        ("~/no-such-model", "there is no folder"),
        ("models/org/name", "there is no folder"),
        ("org\\name", "there is no folder"),
        ("model", "neither a folder on this machine nor a hub id"),
        ("org/", "neither a folder"),
        ("org/na me", "neither a folder"),
        ("org/na--me", "neither a folder"),
        ("org/name.git", "neither a folder"),
        ("-org/name", "neither a folder"),
        ("org/naïve", "neither a folder"),
        ("org/name\n", "neither a folder"),
        ("org/" + "x" * 97, "neither a folder"),
    ],
)
def test_what_is_no_source_is_told_apart(
    source: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError, match=re.escape(told)):
        resolve_folder(source)


def test_faults_of_a_local_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"has no config\.json"):
        resolve_folder(str(tmp_path))
    file = tmp_path / "config.json"
    file.write_text("{}")
    with pytest.raises(HubError, match="is a file"):
        resolve_folder(str(file))
    with pytest.raises(HubError, match="has no revision 'v1'"):
        resolve_folder(str(tmp_path), "v1")


def test_download_fetches_what_serving_needs_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    folder = ask(hub, tmp_path).folder
    assert folder is not None and folder.is_relative_to(tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, data in FILES[MAIN].items() if name in SERVED
    }
    assert hub.fetched() == SERVED


@pytest.mark.parametrize("revision", ["v1", OLD])
def test_a_pinned_revision_is_what_is_fetched(hub: Hub, tmp_path: Path, revision: str) -> None:
    folder = ask(hub, tmp_path, revision).folder
    assert folder is not None
    assert folder.name == OLD
    assert (folder / "model.safetensors").read_bytes() == b"weights of old"


def test_a_cached_model_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    first = ask(hub, tmp_path)
    hub.requests.clear()
    assert ask(hub, tmp_path, HF_HUB_OFFLINE="1") == first
    assert hub.requests == []
    assert ask(hub, tmp_path) == first
    assert hub.fetched() == set()
    assert ask(_gone(), tmp_path) == first


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: Hub, tmp_path: Path) -> None:
    ask(hub, tmp_path, HF_TOKEN="hf_secret")
    sent = {line.split("/")[1]: token for line, token in hub.tokens.items() if "agent" not in line}
    assert sent == {"api": "Bearer hf_secret", "org": "Bearer hf_secret", "cdn": None}


def test_what_the_hub_refuses_is_told_with_the_cure(hub: Hub, tmp_path: Path) -> None:
    unknown = ask(hub, tmp_path, hub_id="org/unknown").error
    assert "shows no model 'org/unknown'" in unknown and "HF_TOKEN" in unknown
    assert "'org/tiny' has no revision 'v9'" in ask(hub, tmp_path, "v9").error
    hub.refusal = (403, "GatedRepo")
    gated = ask(hub, tmp_path).error
    assert f"'org/tiny' is gated: ask for access at {hub.url}/org/tiny" in gated and "HF_TOKEN" in gated
    hub.refusal = (503, "")
    assert f"the hub at {hub.url} answered 503 for 'org/tiny': try again later" in ask(hub, tmp_path).error


def test_a_repository_without_safetensors_is_refused(hub: Hub, tmp_path: Path) -> None:
    del hub.files[MAIN]["model.safetensors"]
    assert "'org/tiny' has no *.safetensors weights" in ask(hub, tmp_path).error
    assert "pytorch_model.bin" not in hub.fetched()
    del hub.files[OLD]["config.json"]
    assert "'org/tiny' has no config.json" in ask(hub, tmp_path, "v1").error


def test_a_hub_out_of_reach_is_told(hub: Hub, tmp_path: Path) -> None:
    offline = ask(hub, tmp_path, HF_HUB_OFFLINE="1").error
    assert "'org/tiny' is not wholly in the cache and HF_HUB_OFFLINE is set" in offline
    assert hub.requests == []
    gone = _gone()
    down = ask(gone, tmp_path).error
    assert f"'org/tiny' could not be fetched from {gone.url} (ConnectError" in down


def test_a_half_download_is_not_served_offline(hub: Hub, tmp_path: Path) -> None:
    folder = ask(hub, tmp_path).folder
    assert folder is not None
    (folder / "model.safetensors").unlink()
    assert "not wholly in the cache" in ask(hub, tmp_path, HF_HUB_OFFLINE="1").error
    assert ask(hub, tmp_path).folder == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights of main"


def _gone() -> Hub:
    """A hub that was on a loopback port once and is not any more."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return Hub(url=f"http://127.0.0.1:{server.server_address[1]}")
