"""Chat templates, with transformers' apply_chat_template as the oracle, and their limits."""

from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import CHAT_TEMPLATE, byte_level, write_text_folder

from penstock_server.model import ServedModel
from penstock_server.text.chat_template import ChatTemplate
from penstock_server.text.errors import TemplateError

TEMPLATES = [
    CHAT_TEMPLATE,
    # Llama 2's way: system text inside the first user turn, alternation enforced.
    """{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}
{%- set rest = messages[1:] -%}{%- else -%}{%- set system = '' -%}{%- set rest = messages -%}{%- endif -%}
{{- bos_token -}}{%- for message in rest -%}
{%- if message.role == 'user' -%}[INST] {% if loop.first and system %}<<SYS>>{{ system }}<</SYS>> {% endif %}
{{- message.content.strip() }} [/INST]{%- else -%} {{ message.content | trim }} {{ eos_token }}{%- endif -%}
{%- endfor -%}""",
    # Namespaces, loop controls, macros, generation blocks, json without HTML escapes, extra variables.
    """{%- set ns = namespace(last=0, names=[]) -%}{%- macro turn(m) -%}<{{ m.role }}>{{ m.content }}{%- endmacro -%}
{%- for message in messages -%}{%- if message.role == 'tool' -%}{%- continue -%}{%- endif -%}
{%- set ns.last = loop.index0 -%}{%- generation -%}{{ turn(message) }}{%- endgeneration -%}{%- endfor -%}
{{ ns.last }}{{ messages | tojson }}{{ {'b': '<&>é', 'a': [1, 2.5, none, true]} | tojson(indent=2, sort_keys=true) }}
{% if thinking is defined and thinking %}<think>{% endif %}{{ dict(x=1).x }}{{ 'ab' * 3 }}{{ strftime_now('%Y') }}
{% if add_generation_prompt %}<assistant>{% endif %}""",
]

CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi <b>you</b> & all"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " x \n"},
        {"role": "assistant", "content": "y"},
    ],
    [{"role": "user", "content": "naïve 🙂", "name": "ann"}, {"role": "tool", "content": "42", "tool_call_id": None}],
]


@pytest.mark.parametrize("source", TEMPLATES)
@pytest.mark.parametrize("messages", CHATS)
@pytest.mark.parametrize("is_open", [True, False])
def test_renders_as_transformers_does(
    tmp_path: Path, source: str, messages: list[dict[str, Any]], is_open: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = byte_level()
    folder = write_text_folder(
        tmp_path, tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=source
    )
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    template = ServedModel.load(folder, ["m"]).template
    assert template is not None
    assert template.render(
        messages, add_generation_prompt=is_open, variables={"thinking": True}
    ) == theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_open, thinking=True)


CONTINUED = ["The wheel", " turns \n", "and x", "x"]


@pytest.mark.parametrize("source", TEMPLATES)
@pytest.mark.parametrize("begun", CONTINUED)
def test_continues_as_transformers_does(tmp_path: Path, source: str, begun: str) -> None:
    """The prompt ends where the last message does, its white space kept if the template keeps it."""
    transformers = pytest.importorskip("transformers")
    folder = write_text_folder(
        tmp_path, byte_level(), bos_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=source
    )
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    template = ServedModel.load(folder, ["m"]).template
    assert template is not None
    messages = [{"role": "user", "content": "x?"}, {"role": "assistant", "content": begun}]
    if "tojson" in source:
        # It shows each message twice, and transformers leaves its mark in the prompt.
        with pytest.raises(TemplateError, match="cannot be continued"):
            template.render(messages, add_generation_prompt=False, continues_last=True)
        return
    ours = template.render(messages, add_generation_prompt=False, continues_last=True)
    assert ours == theirs.apply_chat_template(messages, tokenize=False, continue_final_message=True)


def test_a_message_that_the_template_hides_cannot_be_continued() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(TemplateError, match="cannot be continued"):
        template.render(messages, add_generation_prompt=False, continues_last=True)


def test_where_templates_are_found(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "named"}]
    folder = write_text_folder(tmp_path, byte_level(), chat_template=named)

    def rendered() -> str:
        template = ServedModel.load(folder, ["m"]).template
        assert template is not None
        return template.render([])

    assert rendered() == "named"
    (folder / "chat_template.jinja").write_text("file")
    assert rendered() == "file"
    write_text_folder(tmp_path, byte_level())
    (folder / "chat_template.jinja").unlink()
    assert ServedModel.load(folder, ["m"]).template is None


def test_developer_is_system_for_templates_that_do_not_know_it() -> None:
    messages = [{"role": "developer", "content": "x"}]
    assert ChatTemplate("{{ messages[0].role }}", {}).render(messages) == "system"
    assert ChatTemplate("{# developer #}{{ messages[0].role }}", {}).render(messages) == "developer"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "ran for more than"),
        (
            "{% macro m(n) %}{% if n %}{{ m(n - 1) ~ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
            "ran for more than",
        ),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "recurses too deeply|ran for more",
        ),  # whichever is met first
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "more than"),
        ("{{ 'x' * 10 ** 9 }}", "too large"),
        ("{{ [0] * 10 ** 9 }}", "too large"),
        ("{{ 9 ** 99 ** 99 }}", "too large"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "cannot store"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ self.__init__.__globals__ }}", "unsafe"),
        ("{{ missing.attribute }}", "undefined"),
        ("{{ 1 / 0 }}", "division"),
    ],
)
def test_a_hostile_or_broken_template_fails_alone_and_soon(source: str, told: str) -> None:
    template = ChatTemplate(source, {}, max_seconds=0.2, max_characters=10_000)
    with pytest.raises(TemplateError, match=told):
        template.render([{"role": "user", "content": "x"}])


def test_a_template_that_does_not_compile() -> None:
    with pytest.raises(TemplateError, match="does not compile"):
        ChatTemplate("{% for %}", {})
