"""`run_page`: does what a page tells its reader to do, block by block, and says what came out otherwise than shown."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from executed_pages import formats
from executed_pages.background import Server, ServerDied, port_of, starts_server
from executed_pages.folder import environment, make_folder, shown_paths
from executed_pages.loosely import lines_match_loosely, loose_chat, may_hold_generated_text
from executed_pages.matching import difference, lines_match, output_lines
from executed_pages.not_run import not_run
from executed_pages.outcome import Outcome
from executed_pages.page import Block, Page
from executed_pages.ports import SHOWN_PORTS, Ports, free_ports
from executed_pages.shell import Shell, ShellError
from executed_pages.transcript import PROMPT, Command, TranscriptError, read_transcript

COMMAND_SECONDS = 180.0
# What a script prints stands in a block of this kind right after it.
SCRIPT_OUTPUT = "text output"
RUN = frozenset({"console", "console fails", "python"})
_ASKS = re.compile(r"(localhost|127\.0\.0\.1):8000|\bpenstock chat\b|\bexamples/")


@dataclass(frozen=True, slots=True)
class World:
    """What pages share. `demo_url` starts, once, the server for pages that start none; `is_exact` says whether text
    that a model generates must be the same as on the page."""

    demo_url: Callable[[], str]
    is_exact: bool


def run_page(page: Page, home: Path, world: World) -> list[Outcome]:
    """Run a page in `home`, an empty folder. Stops at the first thing that makes what follows meaningless."""
    with ExitStack() as stack:
        running = _RunningPage(page, home, world, stack)
        outcomes: list[Outcome] = []
        try:
            for i in range(len(page.blocks)):
                outcomes.extend(running.run(i))
        except PageStopped as stopped:
            return [*outcomes, stopped.outcome]
        return outcomes + running.end_servers()


class PageStopped(Exception):
    """Nothing after this would mean anything."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(problem)
        self.outcome = Outcome(place, problem)


class _RunningPage:
    """A page while it runs: its shell, its servers, its ports."""

    def __init__(self, page: Page, home: Path, world: World, stack: ExitStack) -> None:
        self._page = page
        self._world = world
        self._ports = Ports(dict(zip(SHOWN_PORTS, free_ports(len(SHOWN_PORTS)), strict=True)))
        if _asks_a_server(page) and not _serves(page):
            self._ports.actual[8000] = int(httpx.URL(world.demo_url()).port or 0)
        self._folder = make_folder(home)
        self._scratch = home / ".executed"
        self._scratch.mkdir()
        self._shell = stack.enter_context(Shell(self._folder, self._scratch, environment(self._folder, self._ports)))
        self._servers: dict[int, Server] = {}

    def run(self, number: int) -> Iterator[Outcome]:
        """The outcomes of one block."""
        block = self._page.blocks[number]
        before = self._page.blocks[number - 1] if number else None
        match block.kind.split():
            case ["console"]:
                yield from self._run_transcript(block, fails=False)
            case ["console", "fails"]:
                yield from self._run_transcript(block, fails=True)
            case ["python"]:
                after = self._page.blocks[number + 1] if number + 1 < len(self._page.blocks) else None
                yield self._run_script(block, after if after is not None and after.kind == SCRIPT_OUTPUT else None)
            case ["text", "output"] if before is not None and before.kind == "python":
                pass  # compared where the script ran
            case ["chat"]:
                yield self._chat(block)
            case ["promql"]:
                yield self._checked(block, lambda text: formats.check_promql(text, self._metrics()))
            case ["python", "in", path]:
                yield self._checked(block, lambda text: formats.check_excerpt(text, path))
            case [kind] if kind in formats.CHECKERS:
                yield self._checked(block, formats.CHECKERS[kind])
            case _:
                yield Outcome(self._place(block.line), f"do not know what to do with a {block.kind!r} block here")

    def end_servers(self) -> list[Outcome]:
        """End what still runs, the last started first."""
        self._shell.end_all_but([server.job for server in self._servers.values()])
        outcomes = []
        while self._servers:
            _, server = self._servers.popitem()
            outcomes.append(Outcome(f"{self._page.name}: its end", server.end()))
        return outcomes

    def _run_transcript(self, block: Block, *, fails: bool) -> Iterator[Outcome]:
        try:
            commands = read_transcript(block)
        except TranscriptError as error:
            yield Outcome(self._place(block.line), str(error))
            return
        for command in commands:
            place = self._place(command.line, command.text)
            try:
                yield self._run_command(command, place, fails=fails)
            except (ShellError, ServerDied) as error:
                raise PageStopped(place, self._as_shown(str(error))) from error

    def _run_command(self, command: Command, place: str, *, fails: bool) -> Outcome:
        instead = not_run(command.text)
        if instead is not None:
            problem = instead.check(command.text)
            if problem is None and command.output not in ((), ("...",)):
                problem = f"is not run here ({instead.reason}): its output cannot be checked, so show none"
            return Outcome(place, problem)
        text = self._addressed(self._ports.to_actual(command.text))
        if starts_server(command.text) and not fails:
            return self._compared(self._serve(command.text, text), command, place)
        ended = self._shell.run(text, COMMAND_SECONDS)
        if (ended.status != 0) != fails:
            wanted = "a status other than 0" if fails else "status 0"
            told = f"ended with status {ended.status}, not with {wanted}; it wrote:\n{ended.output}"
            return Outcome(place, self._as_shown(told))
        return self._compared(ended.output, command, place)

    def _addressed(self, command: str) -> str:
        """A chat without an address asks the default one, for which another stands here."""
        if "--url" in command:
            return command
        return re.sub(r"\bpenstock chat\b", f"penstock chat --url http://localhost:{self._ports.actual[8000]}", command)

    def _serve(self, shown_command: str, command: str) -> str:
        """Start a server; one that this page started on the same port ends first, as a reader would end it."""
        port = port_of(shown_command, 8000)
        before = self._servers.pop(port, None)
        problem = before.end() if before is not None else None
        if problem is not None:
            raise ServerDied(problem)
        self._servers[port] = Server(self._shell, command)
        try:
            return self._servers[port].wait_until_ready()
        except ServerDied:
            del self._servers[port]
            raise

    def _compared(self, output: str, command: Command, place: str) -> Outcome:
        seen = output_lines(self._as_shown(output))
        matches = lines_match(command.output, seen)
        if not matches and not self._world.is_exact and may_hold_generated_text(command.text, command.output):
            matches = lines_match_loosely(command.output, seen)
        problem = None if matches else "gave other output (- on the page, + seen):\n" + difference(command.output, seen)
        return Outcome(place, problem, command.output_line, command.output, seen)

    def _run_script(self, block: Block, output: Block | None) -> Outcome:
        script = self._scratch / f"script-of-line-{block.line}.py"
        script.write_text(self._ports.to_actual(block.text), encoding="utf-8")
        shown, line = (output.lines, output.line) if output is not None else ((), 0)
        place = self._place(block.line, "(the script that begins here)")
        try:
            outcome = self._run_command(Command(f"python {script}", block.line, shown, line), place, fails=False)
        except ShellError as error:
            raise PageStopped(place, self._as_shown(str(error))) from error
        if outcome.seen and output is None:
            return Outcome(place, f"printed what no {SCRIPT_OUTPUT!r} block shows:\n" + "\n".join(outcome.seen))
        return outcome

    def _chat(self, block: Block) -> Outcome:
        # Needs a terminal multiplexer, which pages without such a block do not.
        from chat_block import run_chat_block

        text = block.text if self._world.is_exact else loose_chat(block.text)
        url = f"http://localhost:{self._ports.actual[8000]}"
        try:
            problem = run_chat_block(self._ports.to_actual(text), url, self._folder)
        except (AssertionError, pytest.fail.Exception) as error:
            problem = str(error)
        return Outcome(self._place(block.line), None if problem is None else self._as_shown(problem))

    def _checked(self, block: Block, check: Callable[[str], object]) -> Outcome:
        try:
            check(block.text)
        except formats.FormatError as error:
            return Outcome(self._place(block.line), f"this {block.kind} block {error}")
        return Outcome(self._place(block.line), None)

    def _metrics(self) -> set[str]:
        page = httpx.get(f"{self._world.demo_url()}/metrics", timeout=COMMAND_SECONDS).text
        return set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE))

    def _as_shown(self, text: str) -> str:
        return shown_paths(self._ports.to_shown(text), self._folder)

    def _place(self, line: int, command: str = "") -> str:
        return f"{self._page.name}:{line}" + (f": $ {command}" if command else "")


def _asks_a_server(page: Page) -> bool:
    """Whether any block needs a server, said or left to the default address."""
    return any(block.kind == "chat" or (block.kind in RUN and _ASKS.search(block.text)) for block in page.blocks)


def _serves(page: Page) -> bool:
    """Whether a page starts a server of its own."""
    for block in page.blocks:
        if block.kind != "console" or not block.lines or not block.lines[0].startswith(PROMPT):
            continue
        if any(starts_server(command.text) for command in read_transcript(block)):
            return True
    return False
