"""`Compiler`: from a grammar to a matcher at its start, off the caller's thread, in bounded time and memory.

The parser's own limits bound what a grammar can cost; a deadline bounds what they miss. Results are kept, failures too,
so that a grammar which comes with every request is compiled once, and one that is refused is refused at once.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from penstock_decoding.errors import Busy
from penstock_decoding.grammar.errors import GrammarError
from penstock_decoding.grammar.params import GrammarParams
from penstock_decoding.grammar.source import written
from penstock_decoding.grammar.vocabulary import ParserTokens, Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

# From when its own compilation begins: waiting for another one is not the grammar's fault.
DEADLINE_SECONDS = 1.0
NUM_KEPT = 128
# A compilation past its deadline cannot be stopped, only left alone; with so many going on, no new one is begun.
MAX_AT_ONCE = 6
NUM_WORKERS = 2
# The parser recurses over what is nested in a grammar.
STACK_BYTES = 64 * 2**20
MAX_MESSAGE = 500
FAILED = "the parser failed over this grammar"
# For the lexer's expressions before any text is seen: half a second's worth.
MAX_LEXER_FUEL = 400_000
# A state takes one to two kilobytes; copies of a matcher share theirs.
MAX_LEXER_STATES = 50_000

_stack_size = threading.Lock()


class Compiler:
    """Compiles for one vocabulary. Safe to use from several threads."""

    def __init__(self, vocabulary: Vocabulary, *, deadline: float = DEADLINE_SECONDS, num_kept: int = NUM_KEPT) -> None:
        self._vocabulary = vocabulary
        self._deadline = deadline
        self._num_kept = num_kept
        self._kept: OrderedDict[GrammarParams, Future[LLMatcher]] = OrderedDict()
        self._num_compiling = 0
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="grammar")
        self._tokenizer: LLTokenizer | None = None
        self._loading = threading.Lock()

    def compile(self, params: GrammarParams) -> "Future[LLMatcher]":
        """A matcher at the grammar's start, its first mask computed once. Copy it, never advance it.

        The future raises:
            GrammarError: says what is wrong with the grammar.
            Busy: nothing is; try again later.
        """
        with self._lock:
            future = self._kept.get(params)
            if future is None:
                future = self._kept[params] = self._workers.submit(self._in_time, params)
                while len(self._kept) > self._num_kept:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(params)
        return future

    def renew(self, params: GrammarParams, stale: "LLMatcher") -> "Future[LLMatcher]":
        """A matcher that shares nothing with the copies of `stale`, which is not given out any more."""
        with self._lock:
            kept = self._kept.get(params)
            if kept is not None and kept.done() and kept.exception() is None and kept.result() is stale:
                del self._kept[params]
        return self.compile(params)

    def _in_time(self, params: GrammarParams) -> "LLMatcher":
        tokenizer = self._load()
        with self._lock:
            if self._num_compiling >= MAX_AT_ONCE:
                self._kept.pop(params, None)
                raise Busy(f"{self._num_compiling} grammars are being compiled that take too long")
            self._num_compiling += 1
        outcome: Future[LLMatcher] = Future()

        def compile_it() -> None:
            try:
                outcome.set_result(_compiled(tokenizer, params))
            except BaseException as error:  # a panic of the parser is no Exception
                outcome.set_exception(error if isinstance(error, GrammarError) else GrammarError(FAILED))
            with self._lock:
                self._num_compiling -= 1
                told = self._kept.get(params)
                if told is not None and told.done():  # too late for who asked, but not for the next one
                    self._kept[params] = outcome

        _start(compile_it)
        try:
            return outcome.result(self._deadline)
        except TimeoutError:
            raise GrammarError(f"takes more than {self._deadline:g} s to compile; make it smaller") from None

    def _load(self) -> "LLTokenizer":
        """The vocabulary as the parser's trie: half a second for a large one, so only when the first grammar comes."""
        from llguidance import LLTokenizer

        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = LLTokenizer(ParserTokens(self._vocabulary))  # type: ignore[arg-type]  # its shape
            return self._tokenizer


def limits() -> "LLParserLimits":
    """What one grammar may cost the parser."""
    from llguidance import LLParserLimits

    return LLParserLimits(initial_lexer_fuel=MAX_LEXER_FUEL, max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)


def _compiled(tokenizer: "LLTokenizer", params: GrammarParams) -> "LLMatcher":
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, written(params), log_level=0, limits=limits())
    # The first mask fills the lexer's cache, which copies share, and finds what no text can begin.
    if not matcher.is_error():
        first = matcher.deep_copy()
        first.compute_bitmask()
        if first.is_error():
            raise GrammarError(told(first.get_error()))
        return matcher
    raise GrammarError(told(matcher.get_error()))


def told(message: str) -> str:
    """What the parser says about a grammar, in one line; it goes on with the grammar itself, or a trace of its own."""
    line = message.partition("\n")[0].removesuffix("<non-verbose/>").removesuffix("<backtrace>").strip()
    line = line.removeprefix("panic: ")
    if line == "NoExtensionBias":
        return "there is no text that it allows and that this model's tokens can write"
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + "..."


def _start(run: Callable[[], None]) -> None:
    with _stack_size:
        before = threading.stack_size(STACK_BYTES)
        try:
            # A daemon: one that runs on must not keep the process from ending.
            threading.Thread(target=run, name="grammar-compile", daemon=True).start()
        finally:
            threading.stack_size(before)
