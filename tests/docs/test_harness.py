"""A page that shows something else than what happens is found out, with its place."""

from pathlib import Path

import psutil
import pytest
from executed_pages.outcome import Outcome
from executed_pages.page import PageError, read_page
from executed_pages.ports import Ports
from executed_pages.run import World, run_page
from executed_pages.update import rewritten

NO_DEMO = World(lambda: pytest.fail("no block here asks for the demo server"), is_exact=True)


def run(text: str, tmp_path: Path, world: World = NO_DEMO) -> list[Outcome]:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return run_page(read_page(path), tmp_path / "home", world)


def problems(text: str, tmp_path: Path, world: World = NO_DEMO) -> str:
    return "\n".join(f"{each.place} {each.problem}" for each in run(text, tmp_path, world) if each.problem is not None)


def block(kind: str, *lines: str) -> str:
    return "\n".join((f"```{kind}", *lines, "```", ""))


def test_right_output_passes(tmp_path: Path) -> None:
    assert not problems("# A page\n\n" + block("console", "$ echo a; echo b >&2", "a", "b"), tmp_path)


def test_wrong_output_fails_with_its_line(tmp_path: Path) -> None:
    told = problems("# A page\n\n" + block("console", "$ true", "$ echo a", "b"), tmp_path)
    assert told.startswith("page.md:5: $ echo a ")
    assert "- b\n+ a" in told


def test_output_that_is_not_shown_fails(tmp_path: Path) -> None:
    assert "+ a" in problems(block("console", "$ echo a"), tmp_path)


@pytest.mark.parametrize(
    ("kind", "command", "told"),
    [
        ("console", "false", "ended with status 1, not with status 0"),
        ("console fails", "true", "ended with status 0, not with a status other than 0"),
        ("console", "exit 3", "the command ended the page's shell"),
        ("console", "if", "ended with status"),
    ],
)
def test_wrong_exit_status_fails(kind: str, command: str, told: str, tmp_path: Path) -> None:
    assert told in problems(block(kind, f"$ {command}"), tmp_path)


def test_a_command_that_fails_as_shown_passes(tmp_path: Path) -> None:
    assert not problems(block("console fails", "$ nosuchcommand", "bash: nosuchcommand: command not found"), tmp_path)


@pytest.mark.parametrize("kind", ["", "sh", "bash", "pythn", "console fail", "text output", "python in"])
def test_an_unknown_kind_of_block_fails(kind: str, tmp_path: Path) -> None:
    assert "do not know what to do" in problems(block(kind, "true"), tmp_path)


def test_a_block_that_is_never_closed_fails(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"page\.md:3"):
        run("one\n\n```console\n$ true\n", tmp_path)


def test_a_transcript_without_a_command_fails(tmp_path: Path) -> None:
    assert "begins with a command" in problems(block("console", "true"), tmp_path)


def test_one_shell_lasts_through_the_page(tmp_path: Path) -> None:
    text = block("console", "$ A=1; mkdir new; cd new") + block("console", "$ echo $A; basename $PWD", "1", "new")
    assert not problems(text, tmp_path)


def test_a_command_may_have_more_lines(tmp_path: Path) -> None:
    assert not problems(block("console", "$ cat <<X", "> a", ">", "> b", "> X", "a", "", "b"), tmp_path)


def test_a_script_prints_what_is_shown(tmp_path: Path) -> None:
    script = block("python", "print(1)")
    assert not problems(script + block("text output", "1"), tmp_path / "right")
    assert "+ 1" in problems(script + block("text output", "2"), tmp_path / "wrong")
    assert "printed what no" in problems(script, tmp_path / "silent")
    assert "ended with status 1" in problems(block("python", "raise ValueError"), tmp_path / "raises")


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("right", "wrong", "silent", "raises"):
        (tmp_path / name).mkdir()


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("json", '{"a": 1}', "{a: 1}"),
        ("json", '{"model": "m", "prompt": "x", "top_k": 3}', '{"model": "m", "prompt": "x", "topk": 3}'),
        ("json", '{"decoding": {"chain": [{"top_k": 3}]}}', '{"decoding": {"chain": [{"top_k": -3}]}}'),
        ("yaml", "a: [1]", "a: [1"),
        ("toml", "max_rows = 4", "max_row = 4"),
        ("ini", "[Service]\nExecStart=/bin/penstock serve demo", "[Service]\nExecStart=/bin/penstock serve --prt 1"),
        ("nginx", "location / { proxy_pass http://localhost:8000; }", "location / { proxy_pass http://x }"),
        ("env", "PENSTOCK_MAX_ROWS=4", "PENSTOCK_MAX_ROW=4"),
        ("text", "a -> b", "$ true"),
        ("python in Makefile", ".DEFAULT_GOAL := help", ".DEFAULT_GOAL := nothing"),
        ("console", "$ make test", "$ make tests"),
        ("console", "$ make chat", "$ make chats"),
        ("console", "$ make bench ARGS='--rate 2'", "$ make bench ARG='--rate 2'"),
        ("console", "$ docker compose up --detach", "$ docker compose upp"),
        ("console", "$ docker compose --profile observe up", "$ docker compose --profile watch up"),
        ("console", "$ MODEL=x docker compose logs --follow penstock", "$ docker compose logs nothing"),
        ("console", "$ docker build --tag penstock .", "$ docker frobnicate"),
        ("console", "$ git clone ADDRESS penstock", "$ git clone"),
        ("console", "$ pip install openai", "$ pip install"),
    ],
)  # fmt: skip
def test_what_is_not_run_is_checked(kind: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert not problems(block(kind, right), tmp_path / "right")
    assert problems(block(kind, wrong), tmp_path / "wrong")


def test_output_of_what_is_not_run_cannot_be_shown(tmp_path: Path) -> None:
    assert "cannot be checked" in problems(block("console", "$ make test", "500 passed"), tmp_path)


def test_a_server_that_dies_fails(tmp_path: Path) -> None:
    told = problems(block("console", "$ penstock serve nowhere", "..."), tmp_path)
    assert "the server ended before it served" in told
    assert "'nowhere' is neither a folder" in told


def test_a_server_that_ends_badly_fails(tmp_path: Path) -> None:
    text = block("console", "$ penstock serve demo", "...") + block("console", "$ pkill -KILL -P $! ")
    assert "the server ended with status 137" in problems(text, tmp_path)


def test_a_server_runs_until_the_page_ends(tmp_path: Path) -> None:
    serve = block("console", "$ penstock serve demo", "...Listening on http://127.0.0.1:8000")
    ask = block("console", "$ curl -s localhost:8000/health", '{"status":"ok"}')
    wrong = block("console", "$ curl -s localhost:8000/health", '{"status":"well"}')
    told = problems(serve.replace("...L", "...\n...L") + ask + wrong, tmp_path)
    assert told.startswith("page.md:11: $ curl -s localhost:8000/health gave other output")
    assert told.count("page.md") == 1


def test_a_page_that_starts_no_server_gets_one(tmp_path: Path, world: World) -> None:
    ask = block("console", "$ curl -s localhost:8000/health", '{"status":"ok"}')
    chat = block("chat", "demo at ... lists the commands", "> /quit")
    assert not problems(ask + chat, tmp_path / "right", world)
    assert "page.md:2" in problems(chat.replace("demo at", "nothing at"), tmp_path / "wrong", world)


def test_queries_ask_for_metrics_that_the_server_has(tmp_path: Path, world: World) -> None:
    right = "rate(penstock_engine_generated_tokens_total[1m])"
    assert not problems(block("promql", right), tmp_path / "right", world)
    assert "which /metrics lacks" in problems(
        block("promql", right.replace("tokens", "words")), tmp_path / "wrong", world
    )
    assert "does not close" in problems(block("promql", right[:-1]), tmp_path / "silent", world)


def test_a_command_that_takes_too_long_fails_and_ends_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executed_pages.run.COMMAND_SECONDS", 0.2)
    told = problems(block("console", "$ echo begun; sleep 1000") + block("console", "$ false"), tmp_path)
    assert "took longer than 0.2 s" in told
    assert "begun" in told
    assert told.count("page.md") == 1


def test_nothing_is_left_running(tmp_path: Path) -> None:
    assert not problems(block("console", "$ setsid sleep 1000 & sleep 1000 &", "$ echo $! > pid; mv pid ~/"), tmp_path)
    pid = int((tmp_path / "home" / "pid").read_text())
    assert not psutil.pid_exists(pid)


def test_a_new_server_on_the_same_port_ends_the_one_before(tmp_path: Path) -> None:
    first = block("console", "$ penstock serve demo --served-model-name one", "...")
    second = block("console", "$ penstock serve demo --served-model-name two", "...", "  model      two (...", "...")
    taken = block("console fails", "$ penstock serve demo", "penstock: cannot listen on 127.0.0.1 port 8000: ...")
    assert not problems(first + second + taken, tmp_path)


def test_ports_are_replaced_only_where_they_are_ports() -> None:
    ports = Ports({8000: 43210})
    text = 'http://localhost:8000/v1 --port 8000 PORT=8000 port = 8000 "max_tokens": 8000 localhost:80001'
    actual = ports.to_actual(text)
    assert actual.count("43210") == 4
    assert actual.endswith('"max_tokens": 8000 localhost:80001')
    assert ports.to_shown(actual) == text
    assert ports.to_shown("id-432109 1.43210 at :43210") == "id-432109 1.43210 at :8000"


def test_no_key_and_no_option_comes_in_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert not problems(block("console fails", "$ env | grep secret"), tmp_path)


def test_generated_text_may_differ_only_on_other_machines(tmp_path: Path) -> None:
    text = block("console", "$ python -c 'print(\"a fox\")'", "an owl")
    assert problems(text, tmp_path / "right")
    assert not problems(text, tmp_path / "wrong", World(NO_DEMO.demo_url, is_exact=False))


def test_new_output_is_written_into_the_page(tmp_path: Path) -> None:
    text = "# A page\n\n" + block("console", "$ echo a 1; echo b", "a ...", "old", "old", "$ echo c", "old") + "End.\n"
    outcomes = run(text, tmp_path)
    assert rewritten(text, outcomes) == "# A page\n\n" + block(
        "console", "$ echo a 1; echo b", "a ...", "b", "$ echo c", "c"
    ) + "End.\n"  # fmt: skip
