"""Makes docs/pictures/chat.svg: a real session of `penstock chat` in a terminal, as it looks.

    python docs/pictures/make_chat_picture.py http://localhost:8000

The server is to serve the demo model. Needs tmux.
"""

import re
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).with_name("chat.svg")
TESTS = Path(__file__).parents[2] / "tests"
WIDTH, HEIGHT = 100, 40

LINES = (
    "/set temperature 0",
    "What is 6 minus 2?",
    "/compare temperature=0.3 seed=4 | temperature=1.1 seed=4 | Tell me a story about a fox.",
)


def main(url: str) -> None:
    sys.path.insert(0, str(TESTS))
    from chat_program import chat_command
    from tmux_terminal import terminal

    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "XDG_STATE_HOME": home, "LANG": "C.UTF-8"}
        with terminal(chat_command(url, "--set", "max_tokens=110"), Path(home), environment, WIDTH, HEIGHT) as session:
            session.at_prompt()
            for line in LINES:
                session.enter(line)
                session.at_prompt()
            shown = session.tmux("capture-pane", "-p", "-e").rstrip()
    # The port is whatever was free.
    shown = shown.replace(url, "http://localhost:8000")
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown))
        # Without the fonts that the template would fetch from elsewhere.
        template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        svg = console.export_svg(title="penstock chat", theme=MONOKAI, code_format=template, unique_id="chat")
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.split("\n")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
