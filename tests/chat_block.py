"""Runs a chat transcript of a documentation page: types its lines into a real session, compares what appears."""

import difflib
import re
import tempfile
from pathlib import Path

from chat_program import chat_command
from tmux_terminal import terminal

WIDTH, HEIGHT = 100, 50


def run_chat_block(text: str, url: str, folder: Path | None = None) -> str | None:
    """Type the lines of `text` that begin with `> `, one after another; the others are what has to appear.

    `...` alone on a line stands for any number of lines, within a line for any characters. What stands before the first
    typed line is compared if there is any.

    Args:
        folder: where the session runs, an empty one if not given; its history is never the user's.

    Returns:
        None if the terminal shows just that, otherwise how the two differ.
    """
    expected = text.strip("\n").split("\n")
    typed = [line.removeprefix("> ") for line in expected if line.startswith("> ")]
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "XDG_STATE_HOME": home, "LANG": "C.UTF-8"}
        with terminal(chat_command(url), folder or Path(home), environment, WIDTH, HEIGHT) as session:
            session.at_prompt()
            for line in typed:
                session.enter(line)
                session.wait(
                    lambda shown: shown.split("\n")[-1].rstrip() == ">" or session.exit_code() is not None,
                    f"a prompt after {line!r}",
                    seconds=120,
                )
            shown = [line.rstrip() for line in session.everything().split("\n")]
    # The prompt that waits at the end, or what tmux says of a program that ended.
    while shown and (shown[-1] in ("", ">") or shown[-1].startswith("Pane is dead")):
        shown.pop()
    if expected[0].startswith("> "):
        while shown and not shown[0].startswith("> "):
            del shown[0]
    if re.fullmatch(_pattern(expected), "\n".join(shown) + "\n"):
        return None
    return "\n".join(difflib.unified_diff(expected, shown, "the page", "the terminal", lineterm=""))


def _pattern(expected: list[str]) -> str:
    """What is expected as a regular expression; every line ends with a line break."""
    lines = []
    for line in expected:
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"\n")
    return "".join(lines)
