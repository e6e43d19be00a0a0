"""The engine process's loop over a socket whose messages a test scripts: what becomes of a client that is gone."""

from collections import deque
from typing import Any, cast

from fake_engine import fake_info
from scripted_engine import VOCAB_SIZE, make_engine, make_request

from penstock_engine.messages import (
    ENCODER,
    FROM_ENGINE,
    Accepted,
    FromEngine,
    Gone,
    Hello,
    Ready,
    Stepped,
    Stop,
    ToEngine,
    pack_request,
    unpack_step,
)
from penstock_engine.process import EngineService

A_FEW = 8  # polls, and one less steps, from one message to the next
IGNORE_EOS: tuple[int, ...] = ()


class ScriptedSocket:
    """Gives one message, then none until the loop has polled a few times, then the next one; keeps what is sent."""

    def __init__(self, *messages: tuple[bytes, ToEngine]) -> None:
        self._messages = deque(messages)
        self._num_polls = 0
        self.sent: list[tuple[bytes, FromEngine]] = []

    def poll(self, timeout_ms: int) -> bool:
        self._num_polls += 1
        return self._num_polls % A_FEW == 0

    def recv_multipart(self) -> tuple[bytes, bytes]:
        client, message = self._messages.popleft()
        return client, ENCODER.encode(message)

    def send_multipart(self, parts: tuple[bytes, bytes]) -> None:
        client, payload = parts
        self.sent.append((client, FROM_ENGINE.decode(payload)))

    def told(self, client: bytes) -> list[FromEngine]:
        return [message for one, message in self.sent if one == client]


def request(handle: int, max_tokens: int) -> ToEngine:
    return pack_request(
        handle, make_request("x", (1, 2, 3), {"seed": 1}, max_tokens=max_tokens, stop_token_ids=IGNORE_EOS)
    )


def run(*messages: tuple[bytes, ToEngine]) -> tuple[ScriptedSocket, Any]:
    socket, engine = ScriptedSocket(*messages), make_engine()
    EngineService(cast(Any, socket), engine, fake_info(VOCAB_SIZE)).run()
    engine.check()
    return socket, engine


def num_tokens(messages: list[FromEngine]) -> int:
    steps = [unpack_step(message) for message in messages if isinstance(message, Stepped)]
    return sum(len(output.tokens) for step in steps for _, output in step)


def test_a_client_that_is_gone_leaves_nothing() -> None:
    socket, engine = run(
        (b"gone", Hello()),
        (b"here", Hello()),
        (b"gone", request(0, 100)),
        (b"here", request(0, 12)),
        (b"here", Gone(b"gone")),
        (b"here", Stop()),
    )
    assert not engine.has_work and engine.stats.num_blocks_in_use == 0
    assert 0 < num_tokens(socket.told(b"gone")) < 100
    assert num_tokens(socket.told(b"here")) == 12


def test_what_comes_after_the_news_of_its_clients_end_is_not_begun() -> None:
    """The two come over different connections, in either order. A request that nobody reads would run to its end."""
    socket, engine = run(
        (b"gone", Hello()),
        (b"here", Hello()),
        (b"here", Gone(b"gone")),
        (b"gone", request(0, 100)),
        (b"here", Stop()),
    )
    assert [type(message) for message in socket.told(b"gone")] == [Ready]
    assert not engine.has_work and engine.stats.num_prompt_tokens == 0


def test_who_never_said_hello_is_nobody() -> None:
    socket, _ = run((b"here", Hello()), (b"stranger", request(0, 5)), (b"here", Stop()))
    assert socket.told(b"stranger") == []


def test_the_same_handle_of_two_clients_is_two_requests() -> None:
    socket, _ = run(
        (b"one", Hello()),
        (b"other", Hello()),
        (b"one", request(7, 2)),
        (b"other", request(7, 5)),
        (b"one", Gone(b"nobody")),
        (b"one", Stop()),
    )
    assert (num_tokens(socket.told(b"one")), num_tokens(socket.told(b"other"))) == (2, 5)
    assert all(any(isinstance(told, Accepted) for told in socket.told(client)) for client in (b"one", b"other"))
