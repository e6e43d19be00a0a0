"""Grammars: what compiling one costs, what a mask costs, and what a fork costs; beside xgrammar if that is there.

The vocabulary is made of the words in this Python's own library, the most frequent first, with and without a space
before: like a model's in size and in how its tokens share beginnings. Every document is cut into its longest tokens;
a mask is taken before each of them, and each has to allow the token that comes. Both libraries are given the same
tokens, and go through each document in turn, round after round; of each mask's times the least one counts. xgrammar is
not a dependency: it needs transformers to run.
"""

import argparse
import importlib.util
import json
import re
import statistics
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from machine import RESULTS, write_result
from quiet import ForeignLoad, warn_unless_quiet

from penstock_decoding.grammar.compiler import Compiler
from penstock_decoding.grammar.params import GrammarParams
from penstock_decoding.grammar.progress import Progress
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.read import read_params

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "pattern": "^[a-z0-9.]+@[a-z0-9]+\\.(com|org|net)$"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue", "yellow"]}, "maxItems": 5},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["street", "zip"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "email", "tags", "address"],
    "additionalProperties": False,
}
_PERSON = {
    "name": "Ada King, Countess of Lovelace",
    "age": 36,
    "email": "ada.king@engine.org",
    "tags": ["red", "blue"],
    "address": {"street": "12 Saint James's Square, in the second house from the corner", "zip": "12345"},
}
_COUNTRIES = tuple(f"the country with the number {i}" for i in range(200))
_ANY = {"text": 'the water runs down to the wheel and "turns" it', "list": [1, 2.5, None, {"deep": [True, [], {}]}]}


@dataclass(frozen=True, slots=True)
class Case:
    """A grammar as a request gives it, and a text that follows it."""

    grammar: dict[str, Any]
    text: str


CASES = {
    "schema": Case({"json_schema": PERSON}, json.dumps(_PERSON, separators=(",", ":"))),
    "any JSON": Case({"json_object": True}, json.dumps(_ANY, separators=(",", ":"))),
    "regex": Case(
        {"regex": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?Z? .{0,80}"}, "2026-11-21T15:40:00Z the end of a day"
    ),
    "choice": Case({"choice": list(_COUNTRIES)}, _COUNTRIES[137]),
}


class Side(Protocol):
    """One library, compiling for one vocabulary."""

    name: str

    def compile(self, grammar: dict[str, Any]) -> Any:
        """Ready for a first mask."""
        ...

    def walk(self, compiled: Any, tokens: Sequence[int]) -> Iterator[tuple[float, bool]]:
        """Seconds for each mask, after taking in the token before, and whether it allows the token that comes."""
        ...

    def fork(self, compiled: Any, tokens: Sequence[int]) -> float:
        """Seconds to copy the state that has taken in these tokens."""
        ...


class Penstock:
    """What the server uses: llguidance, as the processor `grammar` calls it."""

    name = "llguidance"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._compiler = Compiler(vocabulary, deadline=60.0, num_kept=1)
        self._num_tokens = len(vocabulary.tokens)

    def compile(self, grammar: dict[str, Any]) -> Any:
        self._compiler.compile(GrammarParams(choice=("another",))).result()  # takes the place of what was kept
        return self._compiler.compile(read_params(GrammarParams, grammar, "grammar")).result()

    def walk(self, compiled: Any, tokens: Sequence[int]) -> Iterator[tuple[float, bool]]:
        progress = Progress(compiled.deep_copy(), self._num_tokens)
        for before, token in zip([[], *([t] for t in tokens)], tokens, strict=False):
            started = time.perf_counter()
            mask = progress.mask(before)
            yield time.perf_counter() - started, bool(mask.packed[token // 8] >> token % 8 & 1)

    def fork(self, compiled: Any, tokens: Sequence[int]) -> float:
        progress = Progress(compiled.deep_copy(), self._num_tokens)
        progress.mask(tokens)
        return least(lambda: progress.copy())


class XGrammar:
    """xgrammar, as its own documentation uses it. White space is as free here as there."""

    name = "xgrammar"

    def __init__(self, vocabulary: Vocabulary) -> None:
        import xgrammar  # type: ignore[import-not-found,unused-ignore]  # compared with where it is there

        self._xgrammar = xgrammar
        end = len(vocabulary.tokens)
        info = xgrammar.TokenizerInfo([*vocabulary.tokens, b"</s>"], stop_token_ids=[end])
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._bitmask = xgrammar.allocate_token_bitmask(1, end + 1)

    def compile(self, grammar: dict[str, Any]) -> Any:
        if "json_schema" in grammar:
            return self._compiler.compile_json_schema(json.dumps(grammar["json_schema"]))
        if "json_object" in grammar:
            return self._compiler.compile_builtin_json_grammar()
        if "regex" in grammar:
            return self._compiler.compile_regex(grammar["regex"])
        return self._compiler.compile_grammar("root ::= " + " | ".join(json.dumps(text) for text in grammar["choice"]))

    def walk(self, compiled: Any, tokens: Sequence[int]) -> Iterator[tuple[float, bool]]:
        matcher = self._xgrammar.GrammarMatcher(compiled)
        for before, token in zip([None, *tokens], tokens, strict=False):
            started = time.perf_counter()
            if before is not None:
                matcher.accept_token(before)
            matcher.fill_next_token_bitmask(self._bitmask)
            seconds = time.perf_counter() - started
            yield seconds, bool(int(self._bitmask[0, token // 32]) >> token % 32 & 1)

    def fork(self, compiled: Any, tokens: Sequence[int]) -> float:
        matcher = self._xgrammar.GrammarMatcher(compiled)
        for token in tokens:
            matcher.accept_token(token)
        return least(lambda: matcher.fork())


def least(run: Callable[[], object], rounds: int = 20) -> float:
    """The least of the times it takes, in seconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def make_vocabulary(size: int) -> Vocabulary:
    """Bytes, then the most frequent words of Python's library and their beginnings."""
    words: Counter[str] = Counter()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        words.update(re.findall(r" ?[A-Za-z]+| ?\d{1,3}| ?[^\sA-Za-z\d]{1,3}|\s+", path.read_text("utf-8", "replace")))
    pieces = dict.fromkeys(bytes([byte]) for byte in range(256))
    texts = [word for word, _ in words.most_common()]
    for longest in (*range(16, 1, -1), 40):
        for text in texts:
            pieces.setdefault(text[:longest].encode())
    more = (f"{a}{b}".encode() for a in texts for b in texts[:400] if a.isalpha())
    while len(pieces) < size:
        pieces.setdefault(next(more))
    return Vocabulary(tuple(pieces)[:size])


def cut(text: bytes, vocabulary: Vocabulary) -> list[int]:
    """The text in its longest tokens."""
    ids = {piece: i for i, piece in enumerate(vocabulary.tokens)}
    tokens = []
    while text:
        length = next(n for n in range(min(len(text), 40), 0, -1) if text[:n] in ids)
        tokens.append(ids[text[:length]])
        text = text[length:]
    return tokens


def measure(sides: Sequence[Side], case: Case, tokens: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Times of one case in milliseconds (compiling) and microseconds (the others), by side."""
    compiling: dict[str, list[float]] = {side.name: [] for side in sides}
    masks: dict[str, list[list[float]]] = {side.name: [] for side in sides}
    forks: dict[str, float] = {}
    for _ in range(rounds):
        for side in sides:
            started = time.perf_counter()
            compiled = side.compile(case.grammar)
            compiling[side.name].append(time.perf_counter() - started)
            cold = list(side.walk(compiled, tokens))
            assert all(is_allowed for _, is_allowed in cold), f"{side.name} does not take its document"
            warm = [seconds for seconds, _ in side.walk(compiled, tokens)]
            masks[side.name] += [[seconds for seconds, _ in cold], warm]
            forks[side.name] = side.fork(compiled, tokens[: len(tokens) // 2])
    results = {}
    for side in sides:
        own = masks[side.name]
        cold_masks = [min(times) for times in zip(*own[0::2], strict=True)]
        warm_masks = [min(times) for times in zip(*own[1::2], strict=True)]
        results[side.name] = {
            "compile_ms": min(compiling[side.name]) * 1e3,
            "first_walk_mean_us": statistics.fmean(cold_masks) * 1e6,
            "first_walk_max_us": max(cold_masks) * 1e6,
            "mean_us": statistics.fmean(warm_masks) * 1e6,
            "max_us": max(warm_masks) * 1e6,
            "fork_us": forks[side.name] * 1e6,
        }
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[50_000, 128_000], help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, and no result is kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that the figures are written to")
    settings = parser.parse_args(arguments)
    rounds = 1 if settings.quick else settings.rounds
    load = ForeignLoad()
    found: dict[str, Any] = {}
    for size in settings.vocabularies:
        vocabulary = make_vocabulary(size)
        makers: list[type[Penstock] | type[XGrammar]] = [Penstock]
        if importlib.util.find_spec("xgrammar") is not None:
            makers.append(XGrammar)
        sides: list[Side] = []
        for make in makers:
            started = time.perf_counter()
            side = make(vocabulary)
            side.compile({"regex": "a"})
            found.setdefault("vocabulary_ms", {}).setdefault(side.name, {})[size] = (
                time.perf_counter() - started
            ) * 1e3
            sides.append(side)
        for name, case in CASES.items():
            tokens = cut(case.text.encode(), vocabulary)
            results = measure(sides, case, tokens, rounds)
            found.setdefault("cases", {}).setdefault(name, {})[size] = results
            for side_name, times in results.items():
                told = "  ".join(f"{key} {value:8.1f}" for key, value in times.items())
                print(f"{size:>7} {name:<9} {side_name:<11} {len(tokens):>3} tokens  {told}", flush=True)
    print("vocabulary, ms:", found["vocabulary_ms"])
    found["is_quiet"] = warn_unless_quiet(load.since_last())
    if not settings.quick:
        write_result("grammars", found, settings.results)


if __name__ == "__main__":
    main()
