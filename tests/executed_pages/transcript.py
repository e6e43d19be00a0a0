"""`Command`: one command of a transcript and the output shown below it."""

from dataclasses import dataclass

from executed_pages.page import Block

PROMPT = "$ "
CONTINUATION = "> "


class TranscriptError(Exception):
    """A block is no transcript."""


@dataclass(frozen=True, slots=True)
class Command:
    """`line` is where the command stands, `output_line` where its output begins; both count from 1."""

    text: str
    line: int
    output: tuple[str, ...]
    output_line: int


def read_transcript(block: Block) -> list[Command]:
    """The commands of a console block.

    Raises:
        TranscriptError: it does not begin with a command.
    """
    if not block.lines or not block.lines[0].startswith(PROMPT):
        raise TranscriptError(f"a transcript begins with a command, {PROMPT.strip()!r} and a space before it")
    commands = []
    at = 0
    while at < len(block.lines):
        begin = at
        text = block.lines[at].removeprefix(PROMPT)
        at += 1
        while at < len(block.lines) and _is_more(block.lines[at]):
            text += "\n" + block.lines[at][len(CONTINUATION) :]
            at += 1
        output_begin = at
        while at < len(block.lines) and not block.lines[at].startswith(PROMPT):
            at += 1
        output = block.lines[output_begin:at]
        commands.append(Command(text, block.line + begin, output, block.line + output_begin))
    return commands


def _is_more(line: str) -> bool:
    return line.startswith(CONTINUATION) or line == CONTINUATION.strip()
