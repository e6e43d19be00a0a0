"""Lines as a user types them, against an API that says what it was asked; no terminal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from chat_parts import EchoApi, Typist, stream_of
from scripted_api import chunk

from penstock_chat.chat import Chat, overridden, same_seed
from penstock_chat.commands.command import Leave
from penstock_chat.commands.split import split_bars
from penstock_chat.commands.table import COMMANDS
from penstock_chat.conversation import Setup


@pytest.fixture
def api() -> EchoApi:
    return EchoApi()


@pytest.fixture
def typist(api: EchoApi) -> Typist:
    return Typist(api)


def text(word: str = "hi", at: object = None, seed: int = 100, model: str = "echo") -> str:
    return f"{model} hears {word} at {at} with {seed}"


def refused(param: str | None = None) -> httpx2.Response:
    return httpx2.Response(400, json={"error": {"message": "no", "param": param}})


def half() -> httpx2.Response:
    return stream_of(chunk("half"), error=httpx2.ReadError("cut"))


def test_a_conversation_goes_back_whole(typist: Typist, api: EchoApi) -> None:
    chat = typist.type("/system Be kind.", "hi", "there")
    assert [exchange.reply.text for exchange in chat.conversation.exchanges] == [text(), text("there", seed=101)]
    assert api.bodies[-1]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": text()},
        {"role": "user", "content": "there"},
    ]
    assert typist.screen.received[0].figures.num_tokens == 42


def test_settings_are_sent_as_they_are_typed(typist: Typist, api: EchoApi) -> None:
    typist.type(
        "/set temperature 0.2",
        "stop me",
        '/set stop ["x"]',
        '/set decoding {"strategy": "sample", "chain": [{"top_k": 4}]}',
        "/unset\ttemperature",
        "/set",
        "/set stop",
        "hi",
    )
    assert api.bodies[0]["temperature"] == 0.2
    last = api.bodies[-1]
    assert (last["stop"], last["decoding"]) == (["x"], {"strategy": "sample", "chain": [{"top_k": 4}]})
    assert "temperature" not in last
    assert 'stop: ["x"]' in typist.screen.lines
    assert 'stop is ["x"]' in typist.screen.lines


def test_a_refused_setting_can_be_changed_and_the_message_is_kept(typist: Typist, api: EchoApi) -> None:
    api.failures = [refused("temperature")]
    chat = typist.type("/set temperature 9", "hi", "/set temperature 1", "/retry")
    assert [exchange.question for exchange in chat.conversation.exchanges] == ["hi"]
    assert chat.conversation.exchanges[0].reply.text == text(at=1)
    assert "error: the server refused (400): no" in typist.screen.lines
    assert "/set temperature VALUE or /unset temperature changes it, /retry asks again" in typist.screen.lines


def test_another_question_in_place_of_one_that_failed(typist: Typist, api: EchoApi) -> None:
    api.failures = [refused()]
    typist.type("lost?", "hi")
    assert [message["content"] for message in api.bodies[-1]["messages"]] == ["hi"]
    assert "your message is kept: /retry asks again, /undo takes it back" in typist.screen.lines


def test_retry_asks_with_a_new_seed(typist: Typist, api: EchoApi) -> None:
    chat = typist.type("hi", "/retry")
    assert [exchange.reply.text for exchange in chat.conversation.exchanges] == [text(seed=101)]
    assert "seed" not in api.bodies[-1]
    assert not any("seed" in line for line in typist.screen.lines)


def test_retry_with_a_seed_that_is_set(typist: Typist) -> None:
    chat = typist.type("/set seed 5", "hi", "/retry")
    assert chat.conversation.exchanges[0].reply.text == text(seed=5)
    assert "the seed is set: /unset seed lets each reply have its own" in typist.screen.lines


def test_a_failed_retry_loses_nothing() -> None:
    chat = Typist(FailingFrom(EchoApi(), 2)).type("hi", "/retry")
    assert [exchange.reply.text for exchange in chat.conversation.exchanges] == [text()]


class FailingFrom:
    """An API that refuses from the given request on."""

    def __init__(self, api: EchoApi, number: int) -> None:
        self._api, self._left = api, number - 1

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self._left -= 1
        return self._api(request) if self._left >= 0 else refused()


def test_half_a_reply_is_kept_and_marked(typist: Typist, api: EchoApi) -> None:
    api.failures = [half()]
    chat = typist.type("hi")
    assert [(one.reply.text, one.reply.ending) for one in chat.conversation.exchanges] == [("half", "broken")]
    assert any(line.startswith("error: http://server.test/v1: cut") for line in typist.screen.lines)


def test_undo_takes_back_again_and_again(typist: Typist) -> None:
    chat = typist.type("one", "two", "/undo", "/undo", "/undo", "/retry")
    assert chat.conversation.exchanges == ()
    assert typist.screen.lines == [
        "taken back: two",
        "taken back: one",
        "error: nothing was asked yet",
        "error: nothing was asked yet",
    ]


def test_replay_asks_as_it_was_asked(typist: Typist, api: EchoApi) -> None:
    chat = typist.type(
        "/set temperature 1", "hi", "/unset temperature", "/model other", "there", "/replay 1", "/replay"
    )
    assert [body.get("temperature") for body in api.bodies] == [1, None, 1, None]
    assert [body.get("seed") for body in api.bodies] == [None, None, 100, 101]
    assert [body["model"] for body in api.bodies] == ["echo", "other", "echo", "other"]
    assert typist.screen.lines.count("the same reply") == 2
    assert len(chat.conversation.exchanges) == 2


def test_a_replay_that_differs_says_where(typist: Typist, api: EchoApi) -> None:
    chat = Typist(Second(api, stream_of(chunk("echo sees", "stop"))))
    chat.type("hi", "/replay")
    assert "not the same: it differs from character 6 on" in chat.screen.lines


class Second:
    """An API whose second answer is another one."""

    def __init__(self, api: EchoApi, response: httpx2.Response) -> None:
        self._api, self._response, self._num_asked = api, response, 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self._num_asked += 1
        return self._response if self._num_asked == 2 else self._api(request)


@pytest.mark.parametrize("number", ["0", "2", "x", "-1", "9" * 400])
def test_replies_that_do_not_exist(typist: Typist, number: str) -> None:
    typist.type("hi", f"/replay {number}")
    assert typist.screen.lines[-1].startswith("error: ")


def test_compare_asks_twice_from_one_seed_and_keep_takes_one(typist: Typist, api: EchoApi) -> None:
    chat = typist.type("hi", "/compare temperature=0.2 | temperature=1.2 model=other", "/keep 2")
    first, second = api.bodies[1:]
    assert first["seed"] == second["seed"]
    assert [(body["temperature"], body["model"]) for body in (first, second)] == [(0.2, "echo"), (1.2, "other")]
    assert first["messages"] == second["messages"] == [{"role": "user", "content": "hi"}]
    assert typist.screen.titles == [("temperature=0.2", "temperature=1.2 model=other")]
    assert [one.reply.text for one in chat.conversation.exchanges] == [text(at=1.2, seed=first["seed"], model="other")]
    assert (chat.setup.model, dict(chat.setup.settings)) == ("echo", {})


def test_compare_a_given_question(typist: Typist, api: EchoApi) -> None:
    chat = typist.type("hi", '/compare | system="Be kind." | why | not', "/keep 1")
    assert [len(body["messages"]) for body in api.bodies[1:]] == [3, 4]
    assert [exchange.question for exchange in chat.conversation.exchanges] == ["hi", "why | not"]


def test_compare_leaves_the_conversation_alone_until_keep(typist: Typist) -> None:
    chat = typist.type("hi", "/compare temperature=0.2 | temperature=1.2", "there", "/keep 1")
    assert [exchange.reply.text for exchange in chat.conversation.exchanges] == [text(), text("there", seed=101)]
    assert typist.screen.lines[-1] == "error: there is nothing to keep: /compare shows two replies"


def test_one_of_two_fails(typist: Typist) -> None:
    only = Typist(FailingFrom(EchoApi(), 2))
    chat = only.type("/compare | temperature=1 | hi", "/keep 2", "/keep 1")
    assert "error: 2: the server refused (400): no" in only.screen.lines
    assert "error: reply 2 failed; there is nothing of it" in only.screen.lines
    assert [exchange.question for exchange in chat.conversation.exchanges] == ["hi"]


@pytest.mark.parametrize(
    "line", ["/compare", "/compare temperature=1", "/compare x | y", "/compare | ", "/keep 3", "/keep"]
)
def test_compare_that_is_not_understood(typist: Typist, api: EchoApi, line: str) -> None:
    typist.type(line)
    assert typist.screen.lines[-1].startswith("error: ")
    assert api.bodies == []


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("a=1 | b=2", ["a=1 ", " b=2"]),
        ('stop=["|"] | b | c | d', ['stop=["|"] ', " b ", " c | d"]),
        ('a="\\"|" | "b', ['a="\\"|" ', ' "b']),
        ("", [""]),
    ],
)
def test_bars_split_but_not_within_strings(line: str, parts: list[str]) -> None:
    assert split_bars(line, 3) == parts


def test_seeds_of_two() -> None:
    free, set_5, set_6 = (Setup("m", None, {"seed": seed}) for seed in (None, 5, 6))
    assert [one.settings["seed"] for one in same_seed((set_5, free))] == [5, 5]
    assert [one.settings["seed"] for one in same_seed((free, set_5))] == [5, 5]
    assert [one.settings["seed"] for one in same_seed((set_5, set_6))] == [5, 6]
    first, second = same_seed((Setup("m"), free))
    assert first.settings["seed"] == second.settings["seed"] >= 0


def test_overridden_system_can_be_none() -> None:
    assert overridden(Setup("m", "s"), {"system": ""}).system is None


def test_save_load_replay(typist: Typist, api: EchoApi, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    before = typist.type("/set temperature 1", "/system Be kind.", "hi", f"/save {file}")
    again = Typist(api)
    after = again.type(f"/load {file}", "/replay", "/show")
    assert (after.conversation, after.setup) == (before.conversation, before.setup)
    assert "the same reply" in again.screen.lines
    assert f"1 > hi | {text(at=1)}" in again.screen.lines


def test_a_bad_file_changes_nothing(typist: Typist, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text('{"format": "penstock-chat", "version": 1}')
    chat = typist.type("hi", f"/load {file}")
    assert len(chat.conversation.exchanges) == 1
    assert typist.screen.lines[-1] == f"error: cannot read {file}: url: is missing"


def test_a_model_that_is_not_here_is_not_taken_from_a_file(api: EchoApi, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    Typist(api).type("/model else", f"/save {file}")
    typist = Typist(api)
    assert typist.type(f"/load {file}").setup.model == "echo"
    assert "else is not here, so that echo goes on" in typist.screen.lines[-1]


def test_models(typist: Typist) -> None:
    chat = typist.type("/models", "/model other", "/model", "/model othr")
    assert typist.screen.lines == [
        "* echo",
        "  other",
        "the model is other",
        "other",
        "the model is othr, which the server does not list; did you mean other?",
    ]
    assert chat.setup.model == "othr"


def test_new_keeps_what_is_set(typist: Typist) -> None:
    chat = typist.type("/set seed 1", "/system x", "hi", "/clear")
    assert chat.conversation.exchanges == ()
    assert (chat.setup.system, dict(chat.setup.settings)) == ("x", {"seed": 1})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/helpp", "there is no command /helpp; did you mean /help?"),
        ("/comp", "did you mean /compare?"),
        ("/usr/bin/env", "// sends a text that starts with a slash"),
        ("/unset", "/unset NAME"),
        ("/unset temperatur", "temperatur is not set"),
        ("/set model x", "/model NAME"),
        ("/set a-b", "NAME VALUE"),
        ("/save", "/save FILE"),
        ("/load", "/load FILE"),
        ("/load missing.json", "cannot read missing.json: No such file"),
        ("/help nothing", "there is no command /nothing"),
        ("/undo 3", "takes nothing"),
        ("/new x", "takes nothing"),
        ("/show x", "takes nothing"),
        ("/models x", "takes nothing"),
        ("/retry x", "takes nothing"),
    ],
)
def test_mistakes_are_told(typist: Typist, api: EchoApi, line: str, told: str) -> None:
    typist.type(line)
    assert typist.screen.lines[-1].startswith("error: ")
    assert told in typist.screen.lines[-1]
    assert api.bodies == []


def test_slashes(typist: Typist, api: EchoApi) -> None:
    typist.type("//etc/passwd is what?", "   ", "")
    assert [body["messages"][-1]["content"] for body in api.bodies] == ["/etc/passwd is what?"]


def test_help_tells_of_every_command(typist: Typist) -> None:
    typist.type("/help", *(f"/help {command.name}" for command in COMMANDS))
    for command in COMMANDS:
        assert sum(line.startswith(f"{command.usage}: ") for line in typist.screen.lines) == 2


def test_leaving(typist: Typist) -> None:
    for line in ("/quit", "/exit"):
        with pytest.raises(Leave):
            typist.type(line)


def endless(request: httpx2.Request) -> httpx2.Response:
    async def parts() -> AsyncIterator[bytes]:
        yield chunk("half")
        await asyncio.Event().wait()

    return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=parts())


def test_ctrl_c_during_a_reply() -> None:
    """`stop` is what Ctrl-C sets: the reply so far is kept, and the next line is another matter."""
    typist = Typist(endless)
    typist.screen.on_text = lambda: typist.chat.stop.set()
    chat = typist.type("hi", "there")
    assert [(one.reply.text, one.reply.ending) for one in chat.conversation.exchanges] == [("half", "stopped")] * 2


def test_ctrl_c_stops_both_of_two() -> None:
    typist = Typist(endless)
    shown: list[None] = []

    def at_second_text() -> None:
        shown.append(None)
        if len(shown) == 2:
            typist.chat.stop.set()

    typist.screen.on_text = at_second_text
    chat = typist.type("/compare | temperature=1 | hi", "/keep 2")
    assert [one.figures.num_chunks for one in typist.screen.received] == [1, 1]
    assert [(one.reply.text, one.reply.ending) for one in chat.conversation.exchanges] == [("half", "stopped")]


def test_ctrl_c_while_models_are_listed() -> None:
    chats: list[Chat] = []

    def silent(request: httpx2.Request) -> httpx2.Response:
        async def never() -> AsyncIterator[bytes]:
            chats[0].stop.set()
            await asyncio.Event().wait()
            yield b""

        return httpx2.Response(200, content=never())

    typist = Typist(silent)
    typist.on_chat = chats.append
    typist.type("/models")
    assert typist.screen.lines == ["error: stopped"]
