"""The routes, as the document tells of them."""

from dataclasses import dataclass
from typing import Any

# What each status of an error means; the table in docs/api.md says the same.
STATUSES = {
    400: "the request is wrong",
    401: "the key is missing or wrong",
    404: "there is no such model, stored response or route",
    405: "the route takes another method",
    413: "the body is larger than `--max-request-bytes`",
    429: "too many requests wait; `Retry-After` says when to come again",
    500: "the server is at fault, the model gave scores that are no numbers, a plug-in failed, or what the request "
    "excludes left no answer",
    503: "the server shuts down, or its engine is starting anew",
}
_LOOKING = (401, 500)
_ASKING = (400, 401, 404, 413, 500, 503)
_GENERATING = (400, 401, 404, 413, 429, 500, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        name: the operation's id.
        summary: what it does, as in docs/api.md; `gives`: what a 200 is.
        body, reply, chunk: names among the components; `chunk`: of the data of an event, if it can be streamed.
        mark: the data of a stream's last event; a stream that has it tells of searches and faults in events beside it.
        text: the media type of a reply that is no JSON.
        statuses: of the errors that it can answer with.
        is_open: asks for no key.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    gives: str
    body: str | None = None
    reply: str | None = None
    chunk: str | None = None
    mark: str | None = None
    text: str | None = None
    statuses: tuple[int, ...] = _LOOKING
    error: str = "Error"
    description: str = ""
    parameters: tuple[dict[str, Any], ...] = ()
    is_open: bool = False


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_RESPONSE_ID = _path("response_id", "the id of a response that was stored")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/completions",
        name="complete",
        tag="OpenAI",
        summary="continues one or many prompts",
        gives="the answers",
        body="CompletionRequest",
        reply="Completion",
        chunk="CompletionChunk",
        mark="[DONE]",
        statuses=_GENERATING,
    ),
    Operation(
        method="POST",
        path="/v1/chat/completions",
        name="chat",
        tag="OpenAI",
        summary="answers a conversation, with the model's own chat template",
        gives="the answers",
        body="ChatRequest",
        reply="ChatCompletion",
        chunk="ChatCompletionChunk",
        mark="[DONE]",
        statuses=_GENERATING,
    ),
    Operation(
        method="POST",
        path="/v1/responses",
        name="respond",
        tag="OpenAI",
        summary="OpenAI's responses",
        gives="the response",
        body="ResponsesRequest",
        reply="ResponseObject",
        chunk="ResponseEvent",
        statuses=_GENERATING,
    ),
    Operation(
        method="POST",
        path="/v1/responses/input_tokens",
        name="count_input_tokens",
        tag="OpenAI",
        summary="the tokens that such a request would have",
        gives="their count",
        body="ResponsesRequest",
        reply="ResponseInputTokens",
        statuses=_ASKING,
    ),
    Operation(
        method="GET",
        path="/v1/responses/{response_id}",
        name="get_response",
        tag="OpenAI",
        summary="a response that was stored",
        gives="the response",
        reply="ResponseObject",
        statuses=(400, 401, 404, 500, 503),
        parameters=(_RESPONSE_ID, _query("stream", "not supported", {"const": "false"})),
    ),
    Operation(
        method="DELETE",
        path="/v1/responses/{response_id}",
        name="delete_response",
        tag="OpenAI",
        summary="forgets it",
        gives="it is forgotten",
        reply="DeletedResponse",
        statuses=(401, 404, 500, 503),
        parameters=(_RESPONSE_ID,),
    ),
    Operation(
        method="GET",
        path="/v1/responses/{response_id}/input_items",
        name="get_input_items",
        tag="OpenAI",
        summary="the conversation that it answers: `limit` 1 to 100, `order`, `after`",
        gives="its items",
        reply="InputItems",
        statuses=(400, 401, 404, 500, 503),
        parameters=(
            _RESPONSE_ID,
            _query("limit", "most items", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
            _query("after", "the id of the item before the first", {"type": "string"}),
            _query("order", "oldest or newest first", {"enum": ["asc", "desc"], "default": "desc"}),
        ),
    ),
    Operation(
        method="POST",
        path="/v1/embeddings",
        name="embed",
        tag="OpenAI",
        summary="makes vectors of texts, from the model's hidden states",
        gives="the vectors",
        body="EmbeddingsRequest",
        reply="Embeddings",
        statuses=_GENERATING,
    ),
    Operation(
        method="POST",
        path="/v1/score",
        name="score",
        tag="text",
        summary="tells how likely texts are: by themselves, behind a context, or as labels to choose from",
        gives="the scores",
        body="ScoreRequest",
        reply="Scores",
        statuses=_GENERATING,
    ),
    Operation(
        method="POST",
        path="/v1/messages",
        name="message",
        tag="Anthropic",
        summary="Anthropic's messages",
        gives="the answer",
        body="MessagesRequest",
        reply="AnthropicMessage",
        chunk="AnthropicEvent",
        error="AnthropicError",
        statuses=_GENERATING,
    ),
    Operation(
        method="POST",
        path="/v1/messages/count_tokens",
        name="count_tokens",
        tag="Anthropic",
        summary="the tokens that such a request would have",
        gives="their count",
        body="CountTokensRequest",
        reply="InputTokens",
        error="AnthropicError",
        statuses=_ASKING,
    ),
    Operation(
        method="POST",
        path="/tokenize",
        name="tokenize",
        tag="text",
        summary="a text's tokens",
        gives="the tokens",
        body="TokenizeRequest",
        reply="TokenCount",
        statuses=_ASKING,
    ),
    Operation(
        method="POST",
        path="/detokenize",
        name="detokenize",
        tag="text",
        summary="tokens' text",
        gives="the text",
        body="DetokenizeRequest",
        reply="Text",
        statuses=_ASKING,
    ),
    Operation(
        method="POST",
        path="/apply_template",
        name="apply_template",
        tag="text",
        summary="the prompt that a chat becomes",
        gives="the prompt",
        body="TemplateRequest",
        reply="Text",
        statuses=_ASKING,
    ),
    Operation(
        method="GET",
        path="/v1/models",
        name="list_models",
        tag="OpenAI",
        summary="the names of the model, with its context length",
        gives="the names",
        reply="ModelList",
        statuses=(401, 500, 503),
    ),
    Operation(
        method="GET",
        path="/v1/models/{name}",
        name="get_model",
        tag="OpenAI",
        summary="one of them, with what can be asked of it: limits, every strategy and processor with the schema of "
        "its parameters",
        gives="the model",
        reply="ModelAbilities",
        statuses=(401, 404, 500, 503),
        parameters=(_path("name", "a name of the model; it may hold slashes"),),
    ),
    Operation(
        method="GET",
        path="/health",
        name="health",
        tag="operation",
        summary="200 while the server lives, else 503 and why; asks for no key",
        gives="it lives",
        reply="Status",
        statuses=(500, 503),
        is_open=True,
    ),
    Operation(
        method="GET",
        path="/ready",
        name="ready",
        tag="operation",
        summary="200 while it takes requests, else 503 and why; asks for no key",
        gives="it takes requests",
        reply="Status",
        statuses=(500, 503),
        is_open=True,
    ),
    Operation(
        method="GET",
        path="/version",
        name="version",
        tag="operation",
        summary="what runs",
        gives="the version",
        reply="Version",
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        tag="operation",
        summary="for Prometheus",
        gives="the metrics",
        text="text/plain",
    ),
    Operation(
        method="GET",
        path="/docs",
        name="docs",
        tag="operation",
        summary="this API as a page: every route, field and range, with examples",
        gives="the page",
        text="text/html",
        statuses=(401, 500, 503),
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="openapi",
        tag="operation",
        summary="the same as a document of OpenAPI 3.1",
        gives="the document",
        reply="Document",
        statuses=(401, 500, 503),
    ),
)
