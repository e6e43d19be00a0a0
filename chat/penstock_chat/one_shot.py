"""One question, one reply, and out: for scripts and pipes."""

import asyncio
import signal

from penstock_chat.chat import Screen
from penstock_chat.connection import Connection
from penstock_chat.conversation import Conversation, Setup
from penstock_chat.receive import ReplyView, receive

STOPPED = 128 + signal.SIGINT


async def answer_once(
    connection: Connection,
    conversation: Conversation,
    question: str,
    setup: Setup,
    view: ReplyView,
    details: Screen | None,
) -> int:
    """Show the reply; returns the exit code.

    Args:
        details: where the reply's figures are shown, if anywhere.

    Raises:
        ServerError: after what had come was shown.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    received = await receive(connection, conversation, question, setup, view, stop)
    if details is not None:
        details.figures(received)
    if received.failure is not None:
        raise received.failure
    return STOPPED if stop.is_set() else 0
