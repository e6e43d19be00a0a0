"""`NoEngine`: API workers in front of an engine that is not there, which is enough for what they do as processes."""

import asyncio
from pathlib import Path

import psutil
from fake_engine import fake_info


class NoEngine:
    """What API workers need of a `ProcessClient`, of one whose engine has ended for good."""

    path = Path("/nowhere")
    info = fake_info(vocab_size=500)
    failure = "there is no engine"

    def __init__(self) -> None:
        self.forgotten: list[bytes] = []
        self.is_closed = False

    async def turned(self) -> None:
        await asyncio.Event().wait()

    def forget(self, name: bytes) -> None:
        self.forgotten.append(name)

    async def close(self) -> None:
        self.is_closed = True


def own_workers() -> list[int]:
    """The pids of the API workers that this process has started."""
    children = psutil.Process().children()
    return sorted(child.pid for child in children if "penstock_server.workers.worker" in child.cmdline())
