"""`ChatTemplate`: messages to one prompt text, as transformers' `apply_chat_template` renders them.

A template is code that came with a checkpoint, and messages come from anywhere, so it runs in Jinja's immutable sandbox
with a deadline (checked in every loop and macro), a bound on the output, and bounds on repetition and powers. It sees
plain JSON values and the tokenizer's special tokens, and nothing else.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from penstock_server.text.errors import NoTemplate, TemplateError

RESERVED_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt"})

_MAX_REPEATED = 1_000_000  # characters or items that one `*` may make
_MAX_BITS = 4096  # of an integer that one `**` may make
_CLOCK = f"_clock_{secrets.token_hex(8)}"  # a name that no template can shadow


class ChatTemplate:
    """A compiled template. Rendering is thread-safe and takes no longer than `max_seconds`."""

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        *,
        max_seconds: float = 2.0,
        max_characters: int = 4_000_000,
    ) -> None:
        """
        Raises:
            TemplateError: the source is not a template.
        """
        self._special_tokens = dict(special_tokens)
        self._max_seconds = max_seconds
        self._max_characters = max_characters
        environment = _Environment()
        try:
            tree = environment.parse(source)
            _insert_clock(tree, environment)
            self._template = environment.from_string(tree)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateError(f"the chat template does not compile: {error}") from None
        self.source = source
        # A template that never names the newer role means "system".
        self._knows_developer = "developer" in source

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continues_last: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt text.

        Args:
            messages: plain JSON objects; keys whose value is None are left out, as transformers does.
            continues_last: the prompt ends with the content of the last message, so that the answer goes on with it.
            tools: as a request has them.
            variables: further names for the template; none of `RESERVED_NAMES`.

        Raises:
            TemplateError: the template refused the messages, failed, or ran into a limit.
        """
        mark = secrets.token_hex(16)
        if continues_last:
            messages = _ended_by_mark(messages, mark)
        context: dict[str, Any] = {
            **self._special_tokens,
            **(variables or {}),
            "messages": [self._plain(message) for message in messages],
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            _CLOCK: _clock(time.monotonic() + self._max_seconds, self._max_seconds),
        }
        pieces: list[str] = []
        num_characters = 0
        try:
            for piece in self._template.generate(context):
                pieces.append(piece)
                num_characters += len(piece)
                if num_characters > self._max_characters:
                    raise TemplateError(f"the chat template wrote more than {self._max_characters} characters")
        except TemplateError:
            raise
        except RecursionError:
            raise TemplateError("the chat template recurses too deeply") from None
        except Exception as error:  # a template can raise anything its expressions can
            raise TemplateError(f"the chat template failed: {error}") from None
        text = "".join(pieces)
        return _cut_at_mark(text, mark) if continues_last else text

    def _plain(self, message: Mapping[str, Any]) -> dict[str, Any]:
        plain = {key: value for key, value in message.items() if value is not None}
        if plain.get("role") == "developer" and not self._knows_developer:
            plain["role"] = "system"
        return plain


def _ended_by_mark(messages: Sequence[Mapping[str, Any]], mark: str) -> list[Mapping[str, Any]]:
    last = messages[-1]
    # The space shows whether the template strips its messages.
    return [*messages[:-1], {**last, "content": f"{last.get('content') or ''}{mark} "}]


def _cut_at_mark(text: str, mark: str) -> str:
    """The text before the mark, as transformers cuts it: white space before it goes where the template strips it."""
    if text.count(mark) != 1:
        raise TemplateError("the chat template does not show the last message once, as it is: it cannot be continued")
    before, _, after = text.partition(mark)
    return before if after.startswith(" ") else before.rstrip()


def load_template(folder: Path, config: Mapping[str, Any], special_tokens: Mapping[str, str]) -> ChatTemplate | None:
    """The checkpoint's template: chat_template.jinja, else `chat_template` of its tokenizer_config.json (a string, or a
    list of named ones of which "default" is taken). None if it has none.

    Raises:
        TemplateError: it does not compile.
    """
    path = folder / "chat_template.jinja"
    source = path.read_text(encoding="utf-8") if path.is_file() else config.get("chat_template")
    if isinstance(source, list):
        named = {item.get("name"): item.get("template") for item in source if isinstance(item, dict)}
        source = named.get("default")
    return ChatTemplate(source, special_tokens) if isinstance(source, str) else None


def required(template: ChatTemplate | None) -> ChatTemplate:
    """The template, or `NoTemplate`."""
    if template is None:
        raise NoTemplate("this model has no chat template; use /v1/completions")
    return template


class _Environment(ImmutableSandboxedEnvironment):
    """transformers' Jinja dialect, bounded."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["dict"] = _Dict()
        self.globals["namespace"] = _SafeNamespace

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        is_power = operator == "**" and isinstance(left, int) and isinstance(right, int)
        if is_power and left.bit_length() * right > _MAX_BITS:
            raise SecurityError("power too large")
        if operator == "*":
            for sequence, count in ((left, right), (right, left)):
                is_repetition = isinstance(sequence, (str, list, tuple)) and isinstance(count, int)
                if is_repetition and len(sequence) * count > _MAX_REPEATED:
                    raise SecurityError("repetition too large")
        return super().call_binop(context, operator, left, right)


class _GenerationBlock(Extension):
    """`{% generation %}`: marks the assistant's words for training; here its body is simply rendered."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration is a plain set

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """`dict` for templates, without the attributes of the real type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _SafeNamespace(Namespace):
    """`namespace` that stores no underscore names: those would reach into Python's own objects."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no named self, so that `namespace(self=...)` works
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _SafeNamespace._check(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _SafeNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: str) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace cannot store {name!r}")


def _insert_clock(tree: nodes.Template, environment: jinja2.Environment) -> None:
    # A call in front of every loop body and macro body, the two ways to run without end between two outputs.
    bodies: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
    for node in bodies:
        tick = nodes.ExprStmt(nodes.Call(nodes.Name(_CLOCK, "load"), [], [], None, None), lineno=node.lineno)
        node.body.insert(0, tick.set_environment(environment))


def _clock(deadline: float, max_seconds: float) -> Callable[[], None]:
    def tick() -> None:
        if time.monotonic() > deadline:
            raise TemplateError(f"the chat template ran for more than {max_seconds:g} s")

    return tick


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML characters.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
