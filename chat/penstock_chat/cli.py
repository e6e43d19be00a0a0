"""`penstock chat`: its flags, and which way they lead: one question, or a session in a terminal.

The one file of the client that reads the command line and the environment. An error is one line on stderr and exit
code 1.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from penstock_chat.connection import DEFAULT_SILENCE_SECONDS, Connection
from penstock_chat.conversation import Conversation, Setup
from penstock_chat.endpoint import DEFAULT_URL, read_endpoint
from penstock_chat.errors import ChatError, InputError, Refused
from penstock_chat.files import load
from penstock_chat.saved import Saved
from penstock_chat.settings import read_assignment

_BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `penstock chat ARGUMENTS...`; returns the exit code."""
    try:
        flags = _parser().parse_intermixed_args(arguments)
        for stream in (sys.stdout, sys.stderr):
            # A terminal that knows no UTF-8 gets question marks, not an error in the middle of a reply.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        return asyncio.run(_run(flags, environment))
    except ChatError as error:
        from penstock_chat.safe_text import one_line

        print(f"penstock chat: {one_line(error.message)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return 130


async def _run(flags: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from rich.console import Console

    from penstock_chat.view.console_screen import ConsoleScreen

    question = _question(flags)
    key = flags.api_key or _environment_key(environment)
    settings = dict(read_assignment(text) for text in flags.set)
    saved = load(flags.load) if flags.load is not None else None
    connection = Connection(read_endpoint(flags.url, key), flags.timeout)
    no_color = flags.no_color or bool(environment.get("NO_COLOR"))
    console = Console(highlight=False, markup=False, emoji=False, no_color=no_color)
    try:
        models = await _models(connection, flags, saved, is_session=question is None)
        setup = _setup(flags, saved, models, settings)
        screen = ConsoleScreen(console, is_plain=flags.plain)
        if question is not None:
            from penstock_chat.one_shot import answer_once

            errors = Console(stderr=True, highlight=False, markup=False, emoji=False, no_color=no_color)
            details = ConsoleScreen(errors) if flags.verbose or errors.is_terminal else None
            conversation = saved.conversation if saved is not None else Conversation()
            return await answer_once(connection, conversation, question, setup, screen.reply(), details)
        # Loads what a keyboard needs, and nothing else does.
        from penstock_chat.chat import Chat
        from penstock_chat.commands.keeping import apply_saved
        from penstock_chat.terminal.quiet_keys import quiet_keys
        from penstock_chat.terminal.session import run_session

        chat = Chat(connection, screen, setup, models)
        if saved is not None:
            apply_saved(chat, Saved(saved.url, setup, saved.conversation))
        with quiet_keys():
            return await run_session(chat, console, environment)
    finally:
        await connection.close()


def _question(flags: argparse.Namespace) -> str | None:
    """What to ask without a session: the argument, standard input, or one after the other; None for a session."""
    piped = None
    if flags.stdin and sys.stdin is not None and not sys.stdin.isatty():
        try:
            piped = sys.stdin.buffer.read().decode("utf-8-sig").strip("\n")
        except UnicodeDecodeError:
            raise InputError("standard input is not text in UTF-8") from None
    given = " ".join(flags.question) if flags.question else None
    if given is not None or piped is not None:
        question = "\n\n".join(part for part in (given, piped) if part)
        if not question.strip():
            raise InputError("the question is empty")
        return question
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("a session needs a terminal; give a question, or pipe one in")
    return None


def _environment_key(environment: Mapping[str, str]) -> str | None:
    # The server reads the same variable, and takes several keys from it.
    own = next((key for key in environment.get("PENSTOCK_API_KEY", "").split(",") if key), None)
    return own or environment.get("OPENAI_API_KEY") or None


async def _models(
    connection: Connection, flags: argparse.Namespace, saved: Saved | None, *, is_session: bool
) -> tuple[str, ...]:
    """The models that the server lists; not asked for where nothing needs them."""
    is_named = flags.model is not None
    if is_named and not is_session:
        return ()
    try:
        return await connection.models()
    except Refused as error:
        # A server may do without this route, if it is said what to ask for.
        if error.status in (404, 405) and (is_named or saved is not None):
            return ()
        raise


def _setup(
    flags: argparse.Namespace, saved: Saved | None, models: Sequence[str], settings: Mapping[str, object]
) -> Setup:
    """What to ask with: flags win over the loaded file."""
    before = saved.setup if saved is not None else None
    model = flags.model or (before.model if before is not None and (before.model in models or not models) else None)
    if model is None:
        if not models:
            raise InputError("the server lists no models; name one with --model")
        model = models[0]
    system = flags.system if flags.system is not None else before.system if before is not None else None
    return Setup(model, system or None, {**(before.settings if before is not None else {}), **settings})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see penstock chat --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="penstock chat",
        description="Chat in the terminal with a model behind an OpenAI-compatible API: Penstock, vLLM, llama.cpp, ...",
        epilog="Without a question it is a session: /help lists its commands. With one, or with text on standard "
        "input, the reply is printed and that is all; a question and text together are asked as one.",
        allow_abbrev=False,
    )
    parser.add_argument("question", nargs="*", metavar="QUESTION", help="ask this, print the reply, and leave")
    parser.add_argument("--url", default=DEFAULT_URL, help="the server, with /v1 or without (default: %(default)s)")
    parser.add_argument(
        "--model", metavar="NAME", help="which model answers (default: the first that the server lists)"
    )
    parser.add_argument(
        "--api-key", metavar="KEY", help="key for the server (default: the variables PENSTOCK_API_KEY, OPENAI_API_KEY)"
    )
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a field of the requests, like temperature=0.2 or max_tokens=100; repeatable",
    )
    parser.add_argument("--load", metavar="FILE", help="go on with a conversation that /save wrote")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=DEFAULT_SILENCE_SECONDS,
        help="give a reply up after so much silence, pings count as sound (default: %(default)g)",
    )
    parser.add_argument("--plain", action="store_true", help="show replies as they come, without Markdown")
    parser.add_argument("--no-color", action="store_true", help="no colours; so does the variable NO_COLOR")
    parser.add_argument("--no-stdin", dest="stdin", action="store_false", help="do not read standard input")
    parser.add_argument(
        "--verbose", action="store_true", help="with a question: tokens, speed, end and seed on stderr, terminal or not"
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above zero, not {text!r}")
    return seconds
