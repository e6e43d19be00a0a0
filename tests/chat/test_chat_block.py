"""A page's transcript passes only if the terminal shows it."""

from chat_block import run_chat_block
from real_server import Served
from scripted_api import ScriptedApi

RIGHT = """
...
> /set seed 1
seed is 1
> /set seed
seed is ...
> hi
...
... · stop · seed 1
> /quit
"""


def test_right(served: Served) -> None:
    assert run_chat_block(RIGHT, served.url) is None


def test_wrong(scripted: ScriptedApi) -> None:
    difference = run_chat_block("> hi\nGood day.\n...\n", scripted.url)
    assert difference is not None
    assert "-Good day." in difference and "+Hello." in difference


def test_too_short(scripted: ScriptedApi) -> None:
    assert run_chat_block("> hi\nHello.", scripted.url) is not None
    assert run_chat_block("> hi\nHello.\n2 chunks... · stop", scripted.url) is not None
    assert run_chat_block("> hi\nHello.\n1 chunk · first after ... s · stop", scripted.url) is None
