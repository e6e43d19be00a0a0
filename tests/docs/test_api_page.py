"""docs/api.md tells every route and every field, what this server does with it, and what OpenAI's, Anthropic's and
vLLM's do: no more than the document that is served, and the facts in other_apis.py, say."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import other_apis
import pytest
from executed_pages.page import ROOT
from executed_pages.tables import names_in, section, table_rows
from honest_app import HonestApp, standing
from other_apis import ANTHROPIC, OPENAI, VLLM

from penstock_server.openapi.operations import STATUSES

PAGE = ROOT / "docs" / "api.md"
DECODING = "### Decoding fields"
# Heading -> the routes of which the table below it tells.
TABLES: dict[str, tuple[str, ...]] = {
    DECODING: ("/v1/completions", "/v1/chat/completions"),
    "### Fields of completions and chat": ("/v1/completions", "/v1/chat/completions"),
    "### Fields of completions": ("/v1/completions",),
    "### Fields of chat": ("/v1/chat/completions",),
    "### Fields of responses": ("/v1/responses", "/v1/responses/input_tokens"),
    "### Fields of messages": ("/v1/messages", "/v1/messages/count_tokens"),
    "### Fields of embeddings": ("/v1/embeddings",),
    "### Fields of scores": ("/v1/score",),
    "### Fields of tokenize": ("/tokenize",),
    "### Fields of detokenize": ("/detokenize",),
    "### Fields of apply_template": ("/apply_template",),
}
STANDINGS = {"yes": "honoured", "differs": "honoured", "no effect": "inert", "refused": "refused"}
PLACES = {"in completions": {"/v1/completions"}, "in chat": {"/v1/chat/completions"}}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return HonestApp(tmp_path_factory.mktemp("documented")).document


@pytest.fixture(scope="module")
def bodies(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Route -> its fields and their schemas."""
    schemas = document["components"]["schemas"]
    return {
        path: schemas[operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]][
            "properties"
        ]
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if "requestBody" in operation
    }


def rows(heading: str) -> Iterator[tuple[set[str], list[str]]]:
    """The rows of a table: the fields that each is of, and its other cells."""
    for first, *cells in table_rows(section(PAGE, heading)):
        if "decoding fields" in first:
            whole = {name for names, _ in rows(DECODING) for name in names}
            yield whole - names_in(first), cells
        else:
            yield names_in(first), cells


def bare(text: str) -> str:
    """A cell without its links."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)


def word(cell: str) -> str:
    """What a cell says, without what it adds."""
    return cell.partition(":")[0]


def test_every_route_is_in_the_table(document: dict[str, Any]) -> None:
    told = {row[0].strip("`"): bare(row[1]) for row in table_rows(section(PAGE, "## Routes"))}
    served = {
        f"{method.upper()} {path}": operation["summary"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert told == served


def test_every_status_is_in_the_table() -> None:
    assert {int(row[0]): row[2] for row in table_rows(section(PAGE, "## Errors"))} == STATUSES


def test_every_field_is_in_a_table_of_its_route(bodies: dict[str, dict[str, Any]]) -> None:
    """And once only; a table has no field that the route does not take."""
    told: dict[str, list[str]] = {path: [] for path in bodies}
    for heading, paths in TABLES.items():
        for names, _ in rows(heading):
            for path in paths:
                told[path] += names
    assert {path: sorted(names) for path, names in told.items()} == {
        path: sorted(fields) for path, fields in bodies.items()
    }


@pytest.mark.parametrize("heading", TABLES)
def test_the_table_says_what_is_done_with_a_field(bodies: dict[str, dict[str, Any]], heading: str) -> None:
    """Its standing; if it has a row of its own, its meaning; of one that is refused, the values that are not."""
    for names, (_, _, here, meaning, default) in rows(heading):
        for path in TABLES[heading]:
            schemas = [bodies[path][name] for name in names]
            assert {standing(schema) for schema in schemas} == {STANDINGS[here]}, names
            if here == "refused":
                values = [json.loads(value) for value in re.findall(r"`([^`]*)`", default)]
                assert all(schema["enum"] == [None, *values] for schema in schemas), names
            elif len(names) == 1 and here != "no effect":
                assert bare(meaning) in {bodies[each][min(names)]["description"] for each in TABLES[heading]}, names


@pytest.mark.parametrize("heading", [heading for heading, paths in TABLES.items() if paths != ("/v1/score",)])
def test_the_table_says_what_others_have(heading: str) -> None:
    """`no` where the other API has no such field, and where it has one if it is not on all routes of the table."""
    theirs = ANTHROPIC if heading == "### Fields of messages" else OPENAI
    for names, (first, second, *_) in rows(heading):
        if word(first) == "some":  # told field by field in the table of decoding
            continue
        for cell, facts in ((first, theirs), (second, VLLM)):
            for name in names:
                has = {path for path in TABLES[heading] if name in facts.get(path, {})}
                match word(cell):
                    case "no":
                        assert not has, name
                    case "yes":
                        assert has, name
                    case "refused":  # by name: it was a field once, or is one that cannot be used
                        pass
                    case place:
                        assert has == PLACES[place], name


@pytest.mark.parametrize("facts", [OPENAI, ANTHROPIC, VLLM], ids=["openai", "anthropic", "vllm"])
def test_every_field_of_others_is_in_a_table(facts: Mapping[str, Mapping[str, Any]]) -> None:
    for path, fields in facts.items():
        told = {
            name for heading, paths in TABLES.items() if path in paths for names, _ in rows(heading) for name in names
        }
        assert fields.keys() - told == set(), path


def test_the_versions_are_those_that_were_compared() -> None:
    text = " ".join(section(PAGE, "## Every field").split())
    for version in (other_apis.OPENAI_VERSION, other_apis.ANTHROPIC_VERSION, other_apis.VLLM_VERSION):
        for part in version.partition(", its")[0].split(", "):
            assert part in text


def test_tables_have_as_many_cells_as_their_heads() -> None:
    for path in (PAGE, Path(ROOT / "docs" / "serving-a-model.md")):
        lines = path.read_text().splitlines()
        width = 0
        for before, line in zip(["", *lines], lines, strict=False):
            if line.startswith("|"):
                num_cells = len(re.sub(r"`[^`]*`", "", line).strip("|").split("|"))
                width = width if before.startswith("|") else num_cells
                assert num_cells == width, line
