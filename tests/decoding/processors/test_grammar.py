"""Grammar: the mask is exact, whatever the vocabulary; sequences fork and roll back; hostile grammars cost little."""

import itertools
import json
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest
import torch
from decoding_rows import NEVER, apply_asks, distinct_scores, kept, make_row, same_bits, sample_row
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_tables import DEVICE, TABLES, table

from penstock_decoding.errors import Busy, ParameterError
from penstock_decoding.grammar import compiler, source
from penstock_decoding.grammar.compiler import MAX_AT_ONCE, Compiler
from penstock_decoding.grammar.errors import GrammarError, GrammarStuck
from penstock_decoding.grammar.params import GrammarParams
from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_decoding.params import Step
from penstock_decoding.processor import Ask
from penstock_decoding.processors.grammar import Grammar
from penstock_decoding.read import read_params
from penstock_decoding.sampler import Sampler

STOPS = (1, 2)
# Without text, single and several characters, one of them twice, parts of a character, a byte that no text holds.
PIECES = [b"", b"", b"", *b'a b ab ba aab 0 1 01 a { {" " ": "} } x true false e} , ," 1} : ( ) / \\ n'.split()]
PIECES += [b"\xc3", b"\xa9", b"\xc3\xa9", b" ", b"  ", b"\xff"]
VOCABULARY = Vocabulary(tuple(PIECES), (("<|end|>", 1), ("<|stop|>", 2)))
SCORES = torch.zeros(1, len(PIECES) + 5)  # more scores than tokens: some ids have no token


def allowed(processor: Grammar, params: GrammarParams, output: Sequence[int], slot: int = 0) -> set[int]:
    """The tokens that may follow."""
    row = make_row(0, slot=slot, prompt=(), output=output, stop_token_ids=STOPS)
    return set(kept(apply_asks(processor, [Ask(row, params)], SCORES))[0].nonzero().flatten().tolist())


def text_of(output: Sequence[int]) -> bytes:
    return b"".join(PIECES[token] for token in output)


def of_sentences(sentences: Collection[bytes], output: Sequence[int]) -> set[int]:
    """What may follow by brute force: every token tried against every sentence of the language."""
    text = text_of(output)
    possible = [sentence for sentence in sentences if sentence.startswith(text)]
    tokens = {
        i for i, piece in enumerate(PIECES) if piece and any(sentence.startswith(text + piece) for sentence in possible)
    }
    return tokens | (set(STOPS) if text in sentences else set())


def matching(regex: str, alphabet: str, longest: int) -> set[bytes]:
    """All strings over the alphabet that Python's `re` matches as a whole."""
    strings = ("".join(s) for n in range(longest + 1) for s in itertools.product(alphabet, repeat=n))
    return {s.encode() for s in strings if re.fullmatch(regex, s)}


def objects(**choices: Sequence[object]) -> set[bytes]:
    """All compact JSON objects with these keys in this order; None stands for a key that is left out."""
    found = set()
    for values in itertools.product(*choices.values()):
        pairs = {key: value for key, value in zip(choices, values, strict=True) if value is not None}
        found.add(json.dumps(pairs, separators=(",", ":")).encode())
    return found


def parenthesised(depth: int) -> set[bytes]:
    """x inside parentheses, each with an a before its closing one; the innermost may hold nothing else."""
    sentences = {"x"}
    for _ in range(depth):
        sentences |= {f"({inner}a)" for inner in sentences} | {"(a)"}
    return {sentence.encode() for sentence in sentences}


SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": [0, 1, "x", "ab"]}, "b": {"type": "boolean"}},
    "required": ["a"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
LANGUAGES: dict[str, tuple[GrammarParams, set[bytes]]] = {
    "choice": (GrammarParams(choice=("a", "ab", "aab", "é", 'x":')), {b"a", b"ab", b"aab", "é".encode(), b'x":'}),
    "one choice": (GrammarParams(choice=("",)), {b""}),
    "strange choices": (GrammarParams(choice=("}", "(a", "01\\n")), {b"}", b"(a", b"01\\n"}),
    "regex": (GrammarParams(regex="(ab?){1,3}0?"), matching("(ab?){1,3}0?", "ab0", 7)),
    "ambiguous regex": (GrammarParams(regex="(a|ab)(b|ba)?1?"), matching("(a|ab)(b|ba)?1?", "ab1", 5)),
    "characters": (GrammarParams(regex="[é ]{0,2}"), {s.encode() for s in ("", "é", " ", "éé", "é ", " é", "  ")}),
    "slashes": (GrammarParams(regex=r"a\/?b|0//"), matching(r"a\/?b|0//", "ab0/", 3)),
    "json": (GrammarParams(json_schema=json.dumps(SCHEMA)), objects(a=[0, 1, "x", "ab"], b=[None, True, False])),  # type: ignore[arg-type]
    "lark": (GrammarParams(lark='start: "(" inner ")" | "x"\ninner: start? "a"'), parenthesised(8)),
    "gbnf": (GrammarParams(lark='root ::= "(" inner ")" | "x"\ninner ::= root? "a"\n'), parenthesised(8)),
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_masks_equal_brute_force(name: str) -> None:
    """Token for token, on random walks to the end of a sentence: duplicates, parts of characters, tokens that reach
    over a boundary. Nothing may follow that no sentence holds, and a stop token only follows a sentence."""
    params, sentences = LANGUAGES[name]
    rng = random.Random(7)
    for walk in range(12):
        processor, output = Grammar(VOCABULARY), list[int]()
        for _ in range(10):
            expected = of_sentences(sentences, output)
            assert allowed(processor, params, output, slot=walk) == expected
            going_on = sorted(expected - set(STOPS))
            if not going_on:
                break
            output.append(rng.choice(going_on))


def test_only_stop_tokens_after_a_whole_sentence() -> None:
    """When nothing can follow, the answer has to end."""
    assert allowed(Grammar(VOCABULARY), GrammarParams(choice=("ab",)), [5]) == set(STOPS)


def test_a_stop_token_of_ordinary_text() -> None:
    """A request may name a token of text as a stop token: it ends the answer wherever the grammar allows that text."""
    row = make_row(0, prompt=(), output=[3], stop_token_ids=(4,))
    asks = [Ask(row, GrammarParams(regex="ab0"))]
    assert kept(apply_asks(Grammar(VOCABULARY), asks, SCORES))[0].nonzero().flatten().tolist() == [4]


def test_special_tokens_by_name() -> None:
    """A Lark grammar may ask for a special token, which is no text otherwise."""
    params = GrammarParams(lark='start: "a" <|stop|> "b"')
    processor = Grammar(VOCABULARY)
    assert allowed(processor, params, [3]) == {2}
    assert allowed(processor, params, [3, 2]) == {4}
    with pytest.raises(ParameterError, match="special token"):
        Grammar(VOCABULARY).prepare(GrammarParams(lark="start: <|nothing|>")).result()


def test_any_json_object() -> None:
    """`json_object` takes any JSON object and nothing else at its outside."""
    params = GrammarParams(json_object=True)
    processor = Grammar()
    for i, text in enumerate(('{"a": [1, -2.5e3, null, {"é": "\\u001f\\n"}], "b": {}}', "{}", '{\n  "k" : true\n}')):
        row = make_row(0, slot=i, output=list(text.encode()), stop_token_ids=(0,))
        after = kept(apply_asks(processor, [Ask(row, params)], torch.zeros(1, 300)))
        assert after[0].nonzero().flatten().tolist() == [0]
    start = make_row(0, slot=9, output=[], stop_token_ids=(0,))
    assert kept(apply_asks(processor, [Ask(start, params)], torch.zeros(1, 300)))[0].nonzero().tolist() == [[ord("{")]]


@pytest.mark.parametrize(
    ("options", "longest"), [({}, 1), ({"whitespace_flexible": False}, 0), ({"whitespace_pattern": " {1,3}"}, 3)]
)
def test_white_space_in_json_is_bounded(options: dict[str, object], longest: int) -> None:
    """A model that is led astray cannot write white space for ever; the schema's own options count."""
    schema = {"type": "object", "x-guidance": options} if options else {"type": "object"}
    params = read_params(GrammarParams, {"json_schema": schema}, "")
    processor = Grammar()
    for i, count in enumerate(range(longest + 1)):
        row = make_row(0, slot=i, output=list(b"{" + b" " * count), stop_token_ids=(0,))
        may_go_on = kept(apply_asks(processor, [Ask(row, params)], torch.zeros(1, 256)))[0, ord(" ")]
        assert bool(may_go_on) == (count < longest)


@pytest.mark.parametrize("indent", [None, 0, 2, 8, "\t"])
def test_json_may_be_indented(indent: int | str | None) -> None:
    """However `json.dumps` writes a document, three levels deep."""
    text = json.dumps({"a": [{"b": 1}, {"c": [True, None]}], "d": {}}, indent=indent)
    row = make_row(0, output=list(text.encode()), stop_token_ids=(0,))
    after = kept(apply_asks(Grammar(), [Ask(row, GrammarParams(json_object=True))], torch.zeros(1, 256)))
    assert after[0].nonzero().tolist() == [[0]]


def test_rows_are_independent() -> None:
    """Rows with grammars of their own beside others that share one: each as alone, the rest bit for bit."""
    scores = distinct_scores(6, len(PIECES), seed=3)
    params = [LANGUAGES[name][0] for name in ("regex", "choice", "regex", "json")]
    outputs: list[list[int]] = [[3], [], [3, 4], [13]]
    rows = [make_row(i, output=output, stop_token_ids=STOPS) for i, output in zip((0, 1, 3, 5), outputs, strict=True)]
    mixed = apply_asks(Grammar(VOCABULARY), [Ask(row, p) for row, p in zip(rows, params, strict=True)], scores)
    for row, p in zip(rows, params, strict=True):
        alone_row = make_row(0, output=row.output, stop_token_ids=STOPS)
        alone = apply_asks(Grammar(VOCABULARY), [Ask(alone_row, p)], scores[row.index : row.index + 1])
        assert same_bits(mixed[row.index], alone[0])
        assert (kept(alone)[0] <= kept(scores[row.index])).all()
    for untouched in (2, 4):
        assert same_bits(mixed[untouched], scores[untouched])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("num_scores", [len(PIECES) - 3, len(PIECES), len(PIECES) + 40])
def test_masks_as_bits(name: str, num_scores: int) -> None:
    """Applied by the kernels, masks exclude what they do on the host, however wide the scores are."""
    scores = distinct_scores(4, num_scores, seed=4)
    rows = [make_row(i, output=[3], stop_token_ids=STOPS) for i in (3, 1)]
    asks = [Ask(row, LANGUAGES[language][0]) for row, language in zip(rows, ("regex", "choice"), strict=True)]
    masked = apply_asks(Grammar(VOCABULARY, table(name)), asks, scores.to(DEVICE)).cpu()
    assert same_bits(masked, apply_asks(Grammar(VOCABULARY), asks, scores))
    assert not same_bits(masked, scores)


def test_working_ahead_changes_nothing() -> None:
    """What was begun early is what a plan would have found; what was begun for another length is not used."""
    params, sentences = LANGUAGES["regex"]
    processor, output = Grammar(VOCABULARY), [3]
    row = make_row(0, prompt=(), output=output, stop_token_ids=STOPS)
    processor.ahead(Ask(row, params))
    awaited = processor.awaited(row.slot)
    assert awaited is not None
    awaited.result(10)
    assert allowed(processor, params, output) == of_sentences(sentences, output)
    processor.ahead(Ask(row, params))
    output.append(4)
    assert allowed(processor, params, output) == of_sentences(sentences, output)
    assert processor.awaited(99) is None


def test_fork_while_working_ahead() -> None:
    """A fork waits for the thread that owns the state, and takes what it has come to."""
    params, sentences = LANGUAGES["regex"]
    processor = Grammar(VOCABULARY)
    processor.ahead(Ask(make_row(0, prompt=(), output=[3], stop_token_ids=STOPS), params))
    processor.fork(0, 1)
    assert allowed(processor, params, [3, 4], slot=1) == of_sentences(sentences, [3, 4])
    assert allowed(processor, params, [3, 3], slot=0) == of_sentences(sentences, [3, 3])


@given(
    edits=st.lists(
        st.tuples(st.just("append"), st.integers(0, 99))
        | st.tuples(st.just("rollback"), st.integers(0, 6))
        | st.tuples(st.just("fork"), st.integers(0, 2))
        | st.tuples(st.just("release"), st.integers(0, 2)),
        max_size=16,
    ),
    asked=st.lists(st.booleans(), min_size=16, max_size=16),
)
@settings(max_examples=60, deadline=None)
def test_any_life(edits: list[tuple[str, int]], asked: list[bool]) -> None:
    """Whatever is appended, cut back, forked and released, with plans in between or not, masks are a fresh one's."""
    params, sentences = LANGUAGES["regex"]
    processor, outputs = SHARED, {0: list[int]()}
    for i, ((kind, argument), is_asked) in enumerate(zip(edits, asked, strict=False)):
        slot = i % len(outputs)
        match kind:
            case "append":
                going_on = sorted(of_sentences(sentences, outputs[slot]) - set(STOPS))
                if going_on:
                    outputs[slot].append(going_on[argument % len(going_on)])
            case "rollback":
                del outputs[slot][argument:]
                processor.rollback(slot, len(outputs[slot]))
            case "fork":
                target = len(outputs)
                outputs[target] = list(outputs[slot])
                processor.fork(slot, target)
            case "release":
                outputs[slot] = []
                processor.release(slot)
        if is_asked:
            assert allowed(processor, params, outputs[slot], slot) == of_sentences(sentences, outputs[slot])
    for slot, output in outputs.items():
        assert allowed(processor, params, output, slot) == of_sentences(sentences, output)
        processor.release(slot)


SHARED = Grammar(VOCABULARY)


def test_a_text_outside_the_grammar_fails_its_row_alone() -> None:
    """A sequence that is no beginning of a sentence has nothing to go on with: its neighbours never notice."""
    step = Step("grammar", GrammarParams(choice=("ab",)))
    sampler = Sampler(vocabulary=VOCABULARY)
    rows = [
        sample_row(i, chain=[step], output=output, stop_token_ids=STOPS) for i, output in enumerate(([3], [4], [3]))
    ]
    drawn = sampler.sample(distinct_scores(3, len(PIECES), seed=1), rows)
    assert [row.is_valid for row in drawn] == [True, False, True]
    assert drawn[0].tokens.tolist() == drawn[2].tokens.tolist() == [4]
    assert drawn[1].fault is not None and "grammar cannot go on" in drawn[1].fault


def test_a_vocabulary_that_cannot_write_it_is_refused() -> None:
    """No token of the model begins a sentence: told before anything is generated."""
    with pytest.raises(ParameterError, match="tokens can write") as caught:
        Grammar(Vocabulary((b"", b"a", b"b"))).prepare(GrammarParams(regex="[0-9]+")).result()
    assert caught.value.param == "regex"


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "json_schema", "a grammar needs one of"),
    ({"json_object": False}, "json_schema", "a grammar needs one of"),
    ({"regex": "a", "choice": ("a",)}, "choice", "regex and choice are both given"),
    ({"json_object": True, "lark": "start: /a/"}, "lark", "json_object and lark are both given"),
    ({"choice": ()}, "choice", "must be a list of 1 to 4096 strings"),
    ({"choice": ("a",) * 4097}, "choice", "must be a list of 1 to 4096 strings"),
    ({"regex": "a" * 262145}, "regex", "must have at most 262144 characters"),
]


@pytest.mark.parametrize(("fields", "param", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_wrong_parameters(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)) as caught:
        GrammarParams(**fields)
    assert caught.value.param == param


def test_how_an_answer_ends() -> None:
    """A stop token is how an answer ends, and the grammar says where: without one, or beside min_tokens, no."""
    params = GrammarParams(regex="a")
    params.check_stop((1,), 0, 10)
    for stops, min_tokens in (((), 0), ((1,), 3)):
        with pytest.raises(ParameterError):
            params.check_stop(stops, min_tokens, 10)


MALFORMED: dict[str, tuple[GrammarParams, str]] = {
    "regex": (GrammarParams(regex="(a"), "invalid regex"),
    "lookahead": (GrammarParams(regex="(?=a)b"), "regex"),
    "backreference": (GrammarParams(regex=r"(a)\1"), "regex"),
    "lark": (GrammarParams(lark="start: nothing"), "nothing"),
    "lark without a start": (GrammarParams(lark="other: /a/"), "start"),
    "no lark": (GrammarParams(lark="write a poem"), "lark|Expect"),
    "gbnf": (GrammarParams(lark='root ::= "a" nothing'), "nothing"),
    "keyword": (GrammarParams(json_schema='{"dependentSchemas": {"a": {}}}'), "dependentSchemas"),  # type: ignore[arg-type]
    "type": (GrammarParams(json_schema='{"type": "poem"}'), "poem|type"),  # type: ignore[arg-type]
    "remote": (GrammarParams(json_schema='{"$ref": "http://localhost/x"}'), "localhost"),  # type: ignore[arg-type]
    "impossible": (GrammarParams(json_schema="false"), ""),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_wrong_with_a_grammar_is_told(name: str) -> None:
    """In one line, without the parser's traces, by the kind that was given."""
    params, told = MALFORMED[name]
    with pytest.raises(ParameterError, match=f"(?i){told}") as caught:
        Grammar().prepare(params).result()
    assert caught.value.param == params.kind
    assert "\n" not in caught.value.message and "backtrace" not in caught.value.message
    assert len(caught.value.message) < 600


def nested(levels: int) -> str:
    return '{"type":"object","properties":{"a":' * levels + "true" + "}}" * levels


def doubling(name: str, levels: int) -> str:
    rules = [f"{name}{i}: {name}{i + 1} {name}{i + 1}" for i in range(levels)]
    return "\n".join([f"start: {name}0", *rules, f'{name}{levels}: "a"'])


HOSTILE: dict[str, Callable[[], GrammarParams]] = {
    "nested repeats": lambda: GrammarParams(regex="((((a{1,100}){1,100}){1,100}){1,100})"),
    "long repeat": lambda: GrammarParams(regex="a{1000000}"),
    "unicode repeat": lambda: GrammarParams(regex=r"[\p{L}\p{N}]{100000}"),
    "exponential automaton": lambda: GrammarParams(regex="(a|b)*a(a|b){200}"),
    "catastrophic backtracking": lambda: GrammarParams(regex="(a+)+b"),
    "deep regex": lambda: GrammarParams(regex="(" * 100000 + "a" + ")" * 100000),
    "deep lark": lambda: GrammarParams(lark="start: " + "(" * 100000 + '"a"' + ")" * 100000),
    "deep gbnf": lambda: GrammarParams(lark="root ::= " + "(" * 5000 + '"a"' + ")" * 5000),
    "doubling rules": lambda: GrammarParams(lark=doubling("r", 60)),
    "doubling terminals": lambda: GrammarParams(lark=doubling("R", 60)),
    "ambiguous rules": lambda: GrammarParams(lark='start: s\ns: s s s | s s | "a" | ""'),
    "negation": lambda: GrammarParams(lark="start: A\nA: ~/(?s:.*)(a|b)*a(a|b){30}(?s:.*)/ & /(?s:.*)/"),
    "deep schema": lambda: read_params(GrammarParams, {"json_schema": nested(300)}, ""),
    "endless reference": lambda: read_params(GrammarParams, {"json_schema": {"$ref": "#"}}, ""),
    "many properties": lambda: read_params(
        GrammarParams, {"json_schema": {"properties": {f"p{i}": {"type": "string"} for i in range(3000)}}}, ""
    ),
    "product of choices": lambda: read_params(
        GrammarParams,
        {"json_schema": {"allOf": [{"anyOf": [{"const": i * j} for i in range(9)]} for j in range(9)]}},
        "",
    ),
    "long string": lambda: read_params(GrammarParams, {"json_schema": {"type": "string", "minLength": 10**8}}, ""),
    "endless multiple": lambda: GrammarParams(lark='start: %json {"multipleOf": ' + "7" * 100000 + "}"),
    "multiple": lambda: read_params(GrammarParams, {"json_schema": {"type": "integer", "multipleOf": 99999989}}, ""),
    "multiples": lambda: read_params(
        GrammarParams, {"json_schema": {"type": "integer", "allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}}, ""
    ),
    "hidden multiple": lambda: GrammarParams(lark='start: %json {"type": "integer", "\\u006dultipleOf": 99999989}'),
    "many choices": lambda: GrammarParams(choice=tuple(f"choice number {i}" for i in range(4096))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_grammars_are_over_within_seconds(name: str) -> None:
    """Compiled or refused soon, first mask included, on however slow a machine; the process lives on. The limit is a
    second for the compilation itself; the test leaves room for a machine that is busy."""
    started = time.monotonic()
    try:
        processor = Grammar()
        params = HOSTILE[name]()
        processor.prepare(params).result(20)
        apply_asks(processor, [Ask(make_row(0, output=[]), params)], torch.zeros(1, 256))
    except (ParameterError, GrammarStuck):
        pass
    assert time.monotonic() - started < 5


def test_multiples_that_cost_little_are_taken() -> None:
    """Zeros at the end of a divisor are free, and so are decimals."""
    for divisor in (1, 5, 1000000, 0.01, 1e-7, 9999, 2.5e3):
        Grammar().prepare(read_params(GrammarParams, {"json_schema": {"multipleOf": divisor}}, "")).result(20)


def test_compiled_once_and_forgotten_in_the_end() -> None:
    """Equal grammars share one compilation, failures too; only so many are kept."""
    made = Compiler(VOCABULARY, num_kept=2)
    params = [GrammarParams(choice=(text,)) for text in ("a", "b", "ab")]
    first = made.compile(params[0])
    assert made.compile(GrammarParams(choice=("a",))) is first
    broken = made.compile(GrammarParams(regex="("))
    assert made.compile(GrammarParams(regex="(")) is broken
    with pytest.raises(GrammarError):
        broken.result(20)
    for one in params[1:]:
        made.compile(one).result(20)
    assert made.compile(params[0]) is not first


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No compilation gets on before this is set."""
    opened, write = threading.Event(), source.written

    def wait_and_write(params: GrammarParams) -> str:
        opened.wait(20)
        return write(params)

    monkeypatch.setattr(compiler, "written", wait_and_write)
    yield opened
    opened.set()
    join_compilations()


def join_compilations() -> None:
    for thread in threading.enumerate():
        if thread.name == "grammar-compile":
            thread.join(20)


def test_past_its_deadline_a_compilation_is_left_alone(gate: threading.Event) -> None:
    """The caller is told in time; with too many of them about, the next is refused without being begun."""
    made = Compiler(VOCABULARY, deadline=0.001)
    slow = [GrammarParams(choice=(str(i),)) for i in range(MAX_AT_ONCE + 1)]
    outcomes = [made.compile(params).exception(20) for params in slow]
    assert all("takes more than 0.001 s" in str(outcome) for outcome in outcomes[:-1])
    assert isinstance(outcomes[-1], Busy)
    gate.set()
    join_compilations()
    assert not isinstance(made.compile(slow[-1]).exception(20), Busy)


def test_what_came_too_late_serves_the_next_one(gate: threading.Event) -> None:
    """A grammar refused because the machine was busy is not refused for ever."""
    made, params = Compiler(VOCABULARY, deadline=0.001), GrammarParams(choice=("a",))
    assert "takes more" in str(made.compile(params).exception(20))
    gate.set()
    join_compilations()
    assert made.compile(params).exception(20) is None


def test_a_parser_that_breaks_down_fails_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its panics are no `Exception`: one of them must not reach the step loop."""

    class Panic(BaseException):
        pass

    def panic(*_: object) -> None:
        raise Panic

    monkeypatch.setattr(compiler, "written", panic)
    with pytest.raises(ParameterError, match="parser failed"):
        Grammar(VOCABULARY).prepare(GrammarParams(choice=("a",))).result(20)
    with pytest.raises(GrammarStuck, match="parser failed"):
        allowed(Grammar(VOCABULARY), GrammarParams(choice=("a",)), [])


def test_answers_do_not_use_up_each_others_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a matcher share its lexer's states, which are limited: once the answers of other requests had filled
    them, every answer with that grammar failed."""
    monkeypatch.setattr(compiler, "MAX_LEXER_STATES", 150)
    processor = Grammar(VOCABULARY)
    params = GrammarParams(regex="(a|b)*a(a|b){9}")
    rng = random.Random(3)
    for slot in range(40):
        output = [rng.choice((3, 4)) for _ in range(20)]
        text = text_of(output).decode()
        can_end = re.fullmatch("(a|b)*a(a|b){9}", text) is not None
        assert set(STOPS) <= allowed(processor, params, output, slot) or not can_end
        assert {3, 4} <= allowed(processor, params, output, slot)


def test_nothing_is_excluded_twice() -> None:
    """What was excluded before stays so; if the grammar leaves nothing else, nothing is left."""
    scores = SCORES.clone()
    scores[0, 3] = NEVER
    row = make_row(0, prompt=(), output=[], stop_token_ids=STOPS)
    after = apply_asks(Grammar(VOCABULARY), [Ask(row, GrammarParams(regex="a"))], scores)
    assert kept(after)[0].nonzero().flatten().tolist() == [11]  # the other token "a"
    scores[0, 11] = NEVER
    after = apply_asks(Grammar(VOCABULARY), [Ask(row, GrammarParams(regex="a"))], scores)
    assert not kept(after).any() and not after.isnan().any()
