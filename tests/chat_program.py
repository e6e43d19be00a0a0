"""`penstock chat` as a program: the command, and one run of it without a terminal."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PENSTOCK = str(Path(sys.executable).parent / "penstock")


def chat_command(url: str, *flags: str) -> list[str]:
    return [PENSTOCK, "chat", "--url", url, *flags]


def run_chat(
    *flags: str, environment: Mapping[str, str], stdin: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end; without `stdin` there is an empty one."""
    return subprocess.run(
        [PENSTOCK, "chat", *flags],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], **environment},
    )
