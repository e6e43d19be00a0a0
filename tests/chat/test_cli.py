"""One question and out, as scripts and pipes use it: real processes, a real server where its behaviour matters."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE

import httpx
import pytest
from chat_program import PENSTOCK, chat_command, run_chat
from real_server import Served
from scripted_api import ScriptedApi, chunk, event, saying

from penstock_chat import files
from penstock_chat.cli import main
from penstock_chat.conversation import Conversation, Reply, Setup
from penstock_chat.saved import Saved

Home = dict[str, str]

STORY = "Tell me a story about a fox."


@pytest.fixture(scope="session")
def sum_text(served: Served) -> str:
    """What the demo model says to a sum, greedily, asked without the client."""
    messages = [{"role": "user", "content": "What is 3 plus 4?"}]
    body = {"model": "demo", "messages": messages, "temperature": 0}
    reply = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).json()
    return str(reply["choices"][0]["message"]["content"])


def test_a_question(served: Served, home: Home, sum_text: str) -> None:
    done = run_chat("--url", served.url, "--set", "temperature=0", "What is 3 plus 4?", environment=home)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sum_text}\n", "")


def test_words_need_no_quotes_and_verbose_tells_the_figures(served: Served, home: Home, sum_text: str) -> None:
    flags = ["--url", f"{served.url}/v1", "--verbose", "--set", "temperature=0", "--set=seed=5"]
    done = run_chat(*flags, "What", "is", "3", "plus", "4?", environment=home)
    assert done.stdout == f"{sum_text}\n"
    assert re.match(r"\d+ tokens · ", done.stderr) and done.stderr.endswith("stop · seed 5\n")


def test_piped_text_is_the_question(scripted: ScriptedApi, home: Home) -> None:
    done = run_chat("--url", scripted.url, environment=home, stdin="hi\n")
    assert (done.returncode, done.stdout) == (0, "Hello.\n")
    assert scripted.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]


def test_a_question_and_piped_text(scripted: ScriptedApi, home: Home) -> None:
    flags = ["--url", scripted.url, "--system", "Be short.", "--model", "other", "summarise"]
    run_chat(*flags, environment=home, stdin="line 1\nline 2\n")
    run_chat(*flags, "--no-stdin", environment=home, stdin="not read")
    assert [body["messages"][1]["content"] for body in scripted.bodies] == ["summarise\n\nline 1\nline 2", "summarise"]
    assert scripted.bodies[0]["messages"][0] == {"role": "system", "content": "Be short."}
    assert scripted.bodies[0]["model"] == "other"


def test_a_loaded_conversation_goes_on(scripted: ScriptedApi, home: Home, tmp_path: Path) -> None:
    setup = Setup("scripted", "Be kind.", {"temperature": 1, "top_k": 3})
    conversation = Conversation().answered("one", Reply("two", setup))
    file = files.save(str(tmp_path / "chat.json"), Saved("http://elsewhere/v1", setup, conversation))
    done = run_chat("--url", scripted.url, "--load", str(file), "--set", "top_k=9", "three", environment=home)
    assert (done.returncode, done.stdout) == (0, "Hello.\n")
    body = scripted.bodies[0]
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "one", "two", "three"]
    assert (body["temperature"], body["top_k"]) == (1, 9)


def test_a_closed_pipe_is_quiet(scripted: ScriptedApi, home: Home) -> None:
    scripted.reply = saying(*["line\n"] * 20_000)
    environment = {**os.environ, **home}
    command = chat_command(scripted.url, "hi")
    with subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_ctrl_c_ends_reply_and_request(served: Served, home: Home) -> None:
    aborted = served.metrics()["penstock_aborted_requests_total"]
    command = chat_command(served.url, "--set", "ignore_eos=true", "--set", "max_tokens=1000", STORY)
    environment = {**os.environ, **home}
    with subprocess.Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, bufsize=0, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")
    assert rest.endswith(b"\n")
    deadline = time.monotonic() + 30
    while served.metrics()["penstock_engine_kv_blocks_in_use"]:
        assert time.monotonic() < deadline, "the server goes on"
    assert served.metrics()["penstock_aborted_requests_total"] == aborted + 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--url", "http://127.0.0.1:1", "hi"], "no server at http://127.0.0.1:1/v1"),
        (["--url", "ftp://x", "hi"], "--url: 'ftp://x' is not the URL of a server"),
        (["--api-key", "a b", "hi"], "--api-key: a key has no spaces"),
        (["--set", "temperature", "hi"], "a setting is NAME VALUE"),
        (["--set", "model=x", "hi"], "model is not a setting"),
        (["--load", "missing.json", "hi"], "cannot read missing.json"),
        (["--timeout", "0", "hi"], "argument --timeout: must be a number of seconds above zero, not '0'"),
        (["--nonsense", "hi"], "--nonsense; see penstock chat --help"),
        ([""], "the question is empty"),
        ([], "the question is empty"),
        (["--no-stdin"], "a session needs a terminal"),
    ],
)
def test_mistakes_are_one_line(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert main(flags, {}) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("penstock chat: ") and shown.err.count("\n") == 1
    assert told in shown.err


def test_what_the_server_refuses_is_one_line(served: Served, home: Home) -> None:
    done = run_chat("--url", served.url, "--set", "temperature=9", "hi", environment=home)
    assert done.returncode == 1
    assert done.stderr == "penstock chat: the server refused (400): temperature: must be between 0 and 2\n"
    done = run_chat("--url", served.url, "--model", "nope", "hi", environment=home)
    assert done.stderr == "penstock chat: the server refused (404): the model 'nope' does not exist\n"


def test_standard_input_that_is_no_text(home: Home) -> None:
    command = chat_command("http://127.0.0.1:1")
    done = subprocess.run(command, input=b"\xff", capture_output=True, env={**os.environ, **home}, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"penstock chat: standard input is not text in UTF-8\n")


def test_a_broken_reply_is_printed_and_told(scripted: ScriptedApi, home: Home) -> None:
    scripted.reply = lambda body, write: write(
        chunk("half\x1b[2J ") + chunk("a reply") + event('{"error": {"message": "engine \\u001b died"}}', "error")
    )
    done = run_chat("--url", scripted.url, "hi", environment=home)
    assert (done.returncode, done.stdout) == (1, "half␛[2J a reply\n")
    assert done.stderr == "penstock chat: engine ␛ died\n"


def test_an_output_that_knows_no_utf_8(scripted: ScriptedApi, home: Home) -> None:
    scripted.reply = saying("你好 é")
    done = run_chat("--url", scripted.url, "hi", environment={**home, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "?? ?\n", "")


@pytest.mark.parametrize(
    ("variables", "flags", "sent"),
    [
        ({"PENSTOCK_API_KEY": "a,b", "OPENAI_API_KEY": "c"}, [], "Bearer a"),  # a server takes several
        ({"PENSTOCK_API_KEY": "", "OPENAI_API_KEY": "c"}, [], "Bearer c"),
        ({"PENSTOCK_API_KEY": "a"}, ["--api-key", "d"], "Bearer d"),
        ({}, [], None),
    ],
)
def test_keys(scripted: ScriptedApi, home: Home, variables: Home, flags: list[str], sent: str | None) -> None:
    run_chat("--url", scripted.url, *flags, "hi", environment={**home, **variables})
    assert [headers.get("Authorization") for headers in scripted.headers] == [sent]


HEAVY = ["torch", "numpy", "transformers", "pydantic", "fastapi", "triton", "starlette", "tokenizers", "zmq"]
INTERACTIVE = ["prompt_toolkit", "markdown_it", "pygments", "rich.markdown"]

LOADED = """
import json, sys
from penstock_server.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as left:
    code = left.code
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize("flags", [["--help"], ["hi"]])
def test_nothing_heavy_is_loaded(scripted: ScriptedApi, home: Home, flags: list[str]) -> None:
    """What makes a client start slowly is what it imports; counted, not timed."""
    python = str(Path(PENSTOCK).parent / "python")
    done = subprocess.run(
        [python, "-c", LOADED, "chat", "--url", scripted.url, *flags],
        input="",
        capture_output=True,
        text=True,
        env={**os.environ, **home},
        timeout=60,
    )
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert [name for name in [*HEAVY, *INTERACTIVE] if name in modules] == []
    assert len(modules) < 600


def test_help_is_complete(home: Home) -> None:
    done = run_chat("--help", environment=home)
    assert done.returncode == 0
    for flag in ("--url", "--model", "--api-key", "--system", "--set", "--load", "--timeout", "--plain", "--no-color"):
        assert flag in done.stdout
    assert "PENSTOCK_API_KEY" in done.stdout and "QUESTION" in done.stdout
