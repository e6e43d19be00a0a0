"""`penstock chat` in a real terminal against the real server, used as a person uses it."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from chat_program import chat_command
from real_server import Served
from scripted_api import DONE, ScriptedApi, chunk, saying
from tmux_terminal import WAIT_SECONDS, Terminal, terminal

Home = dict[str, str]

STORY = "Tell me a story about a fox."


def open_chat(
    url: str, home: Home, *flags: str, width: int = 100, height: int = 40
) -> AbstractContextManager[Terminal]:
    @contextlib.contextmanager
    def session() -> Iterator[Terminal]:
        with terminal(chat_command(url, *flags), Path(home["HOME"]), home, width, height) as opened:
            opened.at_prompt()
            yield opened

    return session()


def figures(text: str) -> list[str]:
    return re.findall(r"^(?:\d: )?\d+ (?:token|chunk)s? .*$", text, re.MULTILINE)


def test_a_conversation(served: Served, home: Home) -> None:
    with open_chat(served.url, home, "--set", "max_tokens=40") as chat:
        chat.enter("/set temperature 0.2")
        chat.see("temperature is 0.2")
        chat.enter("/set seed 1")
        chat.enter("What is 3 plus 4?")
        chat.at_prompt()
        chat.enter(STORY)
        shown = chat.at_prompt()
        assert len(figures(shown)) == 2
        assert all(
            re.fullmatch(r"\d+ tokens · [\d.]+ tokens/s · first after [\d.]+ s · (stop|length) · seed 1", line)
            for line in figures(shown)
        )
        chat.enter("/undo")
        chat.see(f"taken back: {STORY}")
        chat.enter("/retry")
        chat.see("the seed is set")
        chat.enter("/show")
        shown = chat.at_prompt().split("> /show\n")[1]
        assert "> What is 3 plus 4?" in shown and STORY not in shown
        # The same question and seed twice, once retried: the same text.
        assert len(set(re.findall(r"> What is 3 plus 4\?\n(.*)", chat.everything()))) == 1
        chat.enter("/set temperature 9")
        chat.enter("Hello there.")
        chat.see("the server refused (400): temperature: must be between 0 and 2", "/retry asks again")
        chat.enter("/unset temperature")
        chat.enter("/retry")
        assert len(figures(chat.at_prompt())) == 4
        chat.enter("/quit")
        assert chat.ended() == 0


def test_ctrl_c_stops_the_reply_and_not_the_program(served: Served, home: Home) -> None:
    aborted = served.metrics()["penstock_aborted_requests_total"]
    flags = ["--set", "ignore_eos=true", "--set", "max_tokens=1000", "--set", "seed=4", "--set", "stop=null"]
    with open_chat(served.url, home, *flags) as chat:
        chat.enter(STORY)
        chat.wait(lambda text: len(text.split(STORY)[-1].split()) > 5, "words")
        chat.press("C-c")
        shown = chat.at_prompt()
        assert re.fullmatch(r"\d+ chunks · .* · stopped · seed 4", figures(shown)[0])
        deadline = time.monotonic() + WAIT_SECONDS
        while served.metrics()["penstock_engine_kv_blocks_in_use"]:
            assert time.monotonic() < deadline, "the server goes on"
        assert served.metrics()["penstock_aborted_requests_total"] == aborted + 1
        # The part that came is in the conversation.
        chat.enter("/show")
        assert "reply 1 · demo · stopped · seed 4" in chat.at_prompt()
        chat.enter("/replay")
        chat.wait(lambda text: len(text.split("> /replay")[-1].split()) > 5, "words")
        chat.press("C-c")
        chat.at_prompt()
        # Twice on an empty line leaves; once clears a line.
        chat.write("not sent")
        chat.see("> not sent")
        chat.press("C-c")
        chat.at_prompt()
        chat.press("C-c")
        chat.see("Ctrl-C again or Ctrl-D leaves")
        chat.at_prompt()
        chat.press("C-c")
        assert chat.ended() == 0


def columns(text: str) -> tuple[str, str]:
    rows = [row.split("│") for row in text.split("┼")[-1].split("\n") if "│" in row]
    left, right = (" ".join(" ".join(row[i] for row in rows).split()) for i in (0, 1))
    return left, right


def test_compare(served: Served, home: Home) -> None:
    with open_chat(served.url, home, "--set", "seed=3", "--set", "max_tokens=40") as chat:
        chat.enter(f"/compare temperature=0.2 | temperature=1.2 | {STORY}")
        left, right = columns(chat.see("/keep 1 or /keep 2", "1: temperature=0.2", "2: temperature=1.2"))
        assert left and right and left != right
        chat.enter("/keep 2")
        chat.see("kept reply 2")
        chat.enter("/show")
        shown = " ".join(chat.at_prompt().split("> /show")[1].split())
        assert right in shown and left not in shown
        chat.enter("/compare |")
        shown = chat.see("1: as set").split("> /compare |")[1]
        chat.wait(lambda text: text.count("/keep 1 or /keep 2") == 2, "the end")
        left, right = columns(chat.at_prompt())
        assert left == right, "the same settings and seed twice"


def test_compare_in_a_narrow_terminal(served: Served, home: Home) -> None:
    with open_chat(served.url, home, width=50) as chat:
        chat.enter("/compare | temperature=0.1 | What is 3 plus 4?")
        shown = chat.see("/keep 1 or /keep 2")
        assert "│" not in shown
        assert shown.index("\n1: as set\n") < shown.index("\n2: temperature=0.1\n")


def test_save_load_replay(served: Served, home: Home) -> None:
    with open_chat(served.url, home, "--set", "max_tokens=40") as chat:
        chat.enter(STORY)
        said = chat.at_prompt()
        chat.enter("/save story.json")
        chat.see("saved to")
    saved = json.loads((Path(home["HOME"]) / "story.json").read_text())
    assert f"seed {saved['messages'][1]['seed']}" in figures(said)[0]
    with open_chat(served.url, home, "--load", "story.json") as chat:
        chat.see("1 reply loaded")
        chat.enter("/replay")
        chat.see("the same reply")


def test_tab_completes(served: Served, home: Home) -> None:
    (Path(home["HOME"]) / "a story.json").write_text("{}")
    with open_chat(served.url, home) as chat:
        for typed, completed in (
            ("/com", "> /compare"),
            ("/set tempe", "> /set temperature"),
            ("/model d", "> /model demo"),
            ("/load a", "> /load a story.json"),
            ("/compare | top_p=1 min_t", "> /compare | top_p=1 min_tokens="),
        ):
            chat.write(typed)
            chat.see(f"> {typed}")
            chat.press("Tab")
            chat.see(completed)
            chat.press("C-c")
            chat.at_prompt()
        chat.write("/set m")
        chat.press("Tab")
        chat.see("max_tokens", "min_tokens", "min_p")


def test_history_is_remembered_and_private(scripted: ScriptedApi, home: Home) -> None:
    for line in ("first words", "second words"):
        with open_chat(scripted.url, home) as chat:
            chat.enter(line)
            chat.wait(lambda text: "Hello." in text, "a reply")
            chat.at_prompt()
            chat.press("C-d")
            assert chat.ended() == 0
    with open_chat(scripted.url, home) as chat:

        def goes_back(shown: str) -> bool:
            # The file is read after the prompt is there, so that the first Up may find nothing yet.
            chat.press("Up")
            return "> first words" in shown

        chat.wait(goes_back, "the first message")
    history = Path(home["XDG_STATE_HOME"]) / "penstock" / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600


def test_messages_of_several_lines(scripted: ScriptedApi, home: Home) -> None:
    with open_chat(scripted.url, home) as chat:
        chat.write("one")
        chat.press("M-Enter")
        chat.enter("two")
        chat.see("Hello.")
        chat.at_prompt()
        chat.enter("three\\")
        chat.enter("four")
        chat.wait(lambda text: text.count("Hello.") == 2, "a reply")
        chat.at_prompt()
        chat.enter('"""')
        chat.enter("  five")
        chat.enter("")
        chat.enter('six"""')
        chat.wait(lambda text: text.count("Hello.") == 3, "a reply")
        chat.at_prompt()
        chat.paste("  seven \\\neight\n")
        chat.see("eight")
        chat.press("Enter")
        chat.wait(lambda text: text.count("Hello.") == 4, "a reply")
        chat.at_prompt()
        chat.enter("//slash")
        chat.wait(lambda text: text.count("Hello.") == 5, "a reply")
    asked = [body["messages"][-1]["content"] for body in scripted.bodies]
    assert asked == ["one\ntwo", "three\nfour", "  five\n\nsix", "  seven \\\neight", "/slash"]


def test_a_long_reply_is_whole_in_the_scrollback_once(scripted: ScriptedApi, home: Home) -> None:
    lines = "".join(f"- item {i}\n" for i in range(60))
    scripted.reply = saying(*re.findall(r"[\s\S]{1,5}", f"# Title\n\n{lines}\n\nThe end."))
    with open_chat(scripted.url, home, height=15) as chat:
        chat.enter("hi")
        chat.see("The end.")
        shown = chat.at_prompt()
    assert re.findall(r"• item (\d+)", shown) == [str(i) for i in range(60)]
    assert shown.count("Title") == 1


def test_hostile_text_does_not_reach_the_terminal(scripted: ScriptedApi, home: Home) -> None:
    scripted.reply = saying("\x1b[2J\x1b]0;owned\x07\x1bc", " still here \x9b5m\u202e")
    with open_chat(scripted.url, home) as chat:
        chat.enter("hi")
        shown = chat.see("still here", "stop")
        assert "> hi" in shown and "␛[2J␛]0;owned␇␛c still here \\u009b5m\\u202e" in shown
        assert chat.tmux("display-message", "-p", "#{pane_title}").strip() != "owned"


def test_a_stream_that_breaks_keeps_what_came(scripted: ScriptedApi, home: Home) -> None:
    scripted.reply = lambda body, write: write(chunk("half a reply"))
    with open_chat(scripted.url, home) as chat:
        chat.enter("hi")
        chat.see("half a reply", "broken off", "the stream ended before the reply did")
        chat.at_prompt()
        scripted.reply = lambda body, write: write(chunk("whole", "stop") + DONE)
        chat.enter("/retry")
        chat.see("whole", "stop")
    assert len(scripted.bodies[1]["messages"]) == 1


def test_a_terminal_that_gets_narrower(scripted: ScriptedApi, home: Home) -> None:
    """What the terminal wrapped by itself is erased, too, when the rest comes."""
    wrapped = "a long line of words " * 4
    ready: list[bool] = []

    def reply(body: object, write: object) -> None:
        assert callable(write)
        write(chunk(wrapped))
        deadline = time.monotonic() + WAIT_SECONDS
        while not ready and time.monotonic() < deadline:
            time.sleep(0.01)
        write(chunk("and the end.", "stop") + DONE)

    scripted.reply = reply
    with open_chat(scripted.url, home, width=100, height=20) as chat:
        chat.enter("hi")
        chat.see("of words")
        chat.resize(50, 20)
        ready.append(True)
        shown = chat.see("the end.", "stop")
        assert " ".join(shown.split()).count("a long line") == 4


@pytest.mark.parametrize("flags", [["--plain"], ["--no-color"]])
def test_plain_and_colourless(scripted: ScriptedApi, home: Home, flags: list[str]) -> None:
    scripted.reply = saying("**bold** and\n\n- item")
    with open_chat(scripted.url, home, *flags) as chat:
        chat.enter("hi")
        chat.see("stop")
        assert ("**bold** and" in chat.everything()) == ("--plain" in flags)
        colours = re.findall(r"\x1b\[(?:[0-9]+;)*3[1-7]m", chat.tmux("capture-pane", "-p", "-e"))
        assert bool(colours) == ("--no-color" not in flags)


def test_no_server(home: Home) -> None:
    with terminal(chat_command("http://127.0.0.1:1"), Path(home["HOME"]), home) as chat:
        assert chat.ended() == 1
        assert "startonewith`penstockservedemo`" in "".join(chat.everything().split())
