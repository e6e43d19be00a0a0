"""The schemas of the replies, whole ones and the chunks of a stream, by name among the components."""

from penstock_server.openapi.shapes import (
    ANY_OBJECT,
    BOOLEAN,
    COUNT,
    INTEGER,
    NUMBER,
    STRING,
    Schema,
    array,
    closed,
    nullable,
    ref,
)

_TOKEN_IDS = array(COUNT)
WARNINGS = array(STRING, description="fields of the request that a lenient server passed over")
_OF_ENDS: dict[str, Schema] = {
    "score": {**NUMBER, "description": "what a search ranked the answer by"},
    "stop_reason": {
        "type": ["string", "integer"],
        "description": "the string of `stop`, or the token of `stop_token_ids`, that ended the answer",
    },
    "inclusion_probability": {**NUMBER, "description": "of the strategy `stochastic_beam`"},
}
_ENDS = ["stop", "length"]


def reply_schemas() -> dict[str, Schema]:
    """Every reply of OpenAI's older routes, of the routes of text, and what they are made of."""
    return {
        "Usage": _USAGE,
        "ChainTrace": _CHAIN_TRACE,
        "Embeddings": _EMBEDDINGS,
        "CompletionLogprobs": closed(
            {**_COLUMNS, "processed_logprobs": closed(_COLUMNS)}, [], "The older layout: a column for each fact."
        ),
        "Completion": _whole("text_completion", "cmpl-", _completion_choice(_ENDS), {}),
        "CompletionChunk": _chunk("text_completion", "cmpl-", _completion_choice([*_ENDS, None])),
        "ChatLogprobs": closed(
            {"content": nullable(_CONTENT), "refusal": {"type": "null"}, "processed_logprobs": _PROCESSED},
            ["content", "refusal"],
        ),
        "ChatCompletion": _whole("chat.completion", "chatcmpl-", _CHAT_CHOICE, _OF_PROMPT),
        "ChatCompletionChunk": _chunk("chat.completion.chunk", "chatcmpl-", _CHAT_CHUNK_CHOICE),
        "DecodingEvent": _DECODING_EVENT,
        "TokenCount": closed(
            {
                "count": COUNT,
                "max_model_len": COUNT,
                "tokens": _TOKEN_IDS,
                "token_strs": nullable(array(STRING)),
                "warnings": WARNINGS,
            },
            ["count", "max_model_len", "tokens", "token_strs"],
        ),
        "Text": closed({"prompt": STRING, "warnings": WARNINGS}, ["prompt"]),
        "Scores": closed(
            {
                "id": {"type": "string", "pattern": "^score-"},
                "object": {"const": "list"},
                "created": COUNT,
                "model": STRING,
                "data": array({"anyOf": [_SCORED_INPUT, _CHOSEN_LABEL]}),
                "usage": closed({"prompt_tokens": COUNT, "total_tokens": COUNT}),
                "warnings": WARNINGS,
            },
            ["id", "object", "created", "model", "data", "usage"],
        ),
        "Document": {**ANY_OBJECT, "description": "a document of OpenAPI 3.1"},
        "Status": closed({"status": {"const": "ok"}}),
        "Version": closed({"version": STRING}),
        "Model": closed(_MODEL),
        "ModelAbilities": {
            "description": "The model; to who sends an `anthropic-version`, in Anthropic's shape.",
            "anyOf": [
                closed({**_MODEL, "penstock": {**ANY_OBJECT, "description": "what can be asked of it here"}}),
                ref("AnthropicModel"),
            ],
        },
        "ModelList": {
            "description": "The models; to who sends an `anthropic-version`, in Anthropic's shape.",
            "anyOf": [
                closed({"object": {"const": "list"}, "data": array(ref("Model"))}),
                closed(
                    {
                        "data": array(ref("AnthropicModel")),
                        "has_more": {"const": False},
                        "first_id": STRING,
                        "last_id": STRING,
                    }
                ),
            ],
        },
        "AnthropicModel": closed(
            {
                "type": {"const": "model"},
                "id": STRING,
                "display_name": STRING,
                "created_at": STRING,
                "lifecycle": {"const": "active"},
                "max_input_tokens": COUNT,
                "max_tokens": COUNT,
            }
        ),
        "Error": closed({"error": closed(_ERROR)}, description="What went wrong, and `param`: the field at fault."),
        "AnthropicError": closed({"type": {"const": "error"}, "error": closed(_ERROR)}),
    }


_ERROR: dict[str, Schema] = {
    "message": STRING,
    "type": STRING,
    "param": nullable(STRING),
    "code": nullable(STRING),
}
_MODEL: dict[str, Schema] = {
    "id": STRING,
    "object": {"const": "model"},
    "created": COUNT,
    "owned_by": STRING,
    "root": STRING,
    "parent": {"type": "null"},
    "max_model_len": COUNT,
}
_USAGE = closed(
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_tokens_details": closed({"cached_tokens": COUNT}),
    }
)
_EMBEDDINGS = closed(
    {
        "object": {"const": "list"},
        "data": array(
            closed(
                {
                    "object": {"const": "embedding"},
                    "index": COUNT,
                    "embedding": {"anyOf": [array(NUMBER), {"type": "string", "contentEncoding": "base64"}]},
                }
            )
        ),
        "model": STRING,
        "usage": closed({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        "warnings": WARNINGS,
    },
    ["object", "data", "model", "usage"],
)
_STEP = closed(
    {
        "name": STRING,
        "kept_count": NUMBER,
        "kept_mass": NUMBER,
        "entropy_before": nullable(NUMBER),
        "entropy_after": nullable(NUMBER),
    }
)
_CHAIN_TRACE = closed(
    {"content": array(closed({"token": STRING, "steps": array(_STEP)}))},
    description="What each processor did to the distribution, token by token.",
)
_COLUMNS: dict[str, Schema] = {
    "tokens": array(STRING),
    "token_logprobs": array(nullable(NUMBER)),
    "top_logprobs": array({"type": ["object", "null"], "additionalProperties": NUMBER}),
    "text_offset": array(COUNT),
}
_READ_TOKEN = closed({"logprob": NUMBER, "rank": {"type": "integer", "minimum": 1}, "decoded_token": STRING})
_PROMPT_LOGPROBS = array(
    {"type": ["object", "null"], "propertyNames": {"pattern": "^[0-9]+$"}, "additionalProperties": _READ_TOKEN},
    description="For each token of the prompt, by their ids: itself, and the likeliest ones at its place; null for the "
    "first one.",
)
_OF_PROMPT: dict[str, Schema] = {"prompt_token_ids": _TOKEN_IDS, "prompt_logprobs": _PROMPT_LOGPROBS}
_SCORE: dict[str, Schema] = {
    "log_likelihood": {**NUMBER, "description": "the sum of the tokens' log-probabilities, in nats"},
    "mean_log_likelihood": nullable(NUMBER),
    "perplexity": nullable(NUMBER),
    "bits_per_byte": nullable(NUMBER),
    "num_tokens": {**COUNT, "description": "tokens that count"},
    "num_bytes": {**COUNT, "description": "what they write of the text, in UTF-8"},
    "is_greedy": {**BOOLEAN, "description": "each of them is the likeliest at its place"},
    "logprobs": closed(_COLUMNS),
}
_SCORED: dict[str, Schema] = {"object": {"const": "score"}, "index": COUNT}
_SCORED_INPUT = closed({**_SCORED, **_SCORE}, [*_SCORED, *(name for name in _SCORE if name != "logprobs")])
_LABEL: Schema = {"anyOf": [STRING, _TOKEN_IDS]}
_LABELLED: dict[str, Schema] = {"label": _LABEL, "probability": {"type": "number", "minimum": 0, "maximum": 1}}
_CHOSEN_LABEL = closed(
    {
        **_SCORED,
        "label": {"description": "the likeliest label", **_LABEL},
        "labels": array(
            closed({**_LABELLED, **_SCORE}, [*_LABELLED, *(name for name in _SCORE if name != "logprobs")])
        ),
    }
)
_CANDIDATE: dict[str, Schema] = {
    "token": STRING,
    "logprob": NUMBER,
    "bytes": array({"type": "integer", "minimum": 0, "maximum": 255}),
}
_CONTENT = array(closed({**_CANDIDATE, "top_logprobs": array(closed(_CANDIDATE))}))
_PROCESSED = closed({"content": _CONTENT, "refusal": {"type": "null"}})


def _frame(kind: str, prefix: str) -> dict[str, Schema]:
    return {
        "id": {"type": "string", "pattern": f"^{prefix}"},
        "object": {"const": kind},
        "created": COUNT,
        "model": STRING,
        "system_fingerprint": STRING,
        "seed": {**INTEGER, "description": "sent again, it gives the same answers"},
        "warnings": WARNINGS,
    }


def _whole(kind: str, prefix: str, choice: Schema, more: dict[str, Schema]) -> Schema:
    fields = {**_frame(kind, prefix), "choices": array(choice), "usage": ref("Usage")}
    return closed({**fields, **more}, [name for name in fields if name != "warnings"])


def _chunk(kind: str, prefix: str, choice: Schema) -> Schema:
    fields = {**_frame(kind, prefix), "choices": array(choice)}
    told = "The data of one event. The last one with `include_usage` has no choices; after it comes `[DONE]`."
    required = [name for name in fields if name != "warnings"]
    return closed({**fields, "usage": nullable(ref("Usage"))}, required, told)


def _completion_choice(ends: list[str | None] | list[str]) -> Schema:
    fields: dict[str, Schema] = {
        "index": COUNT,
        "text": STRING,
        "logprobs": nullable(ref("CompletionLogprobs")),
        "finish_reason": {"enum": list(ends)},
    }
    more = {"chain_trace": ref("ChainTrace"), "token_ids": _TOKEN_IDS, **_OF_PROMPT, **_OF_ENDS}
    return closed({**fields, **more}, list(fields))


_FUNCTION = {"name": STRING, "arguments": STRING}
_MESSAGE = closed(
    {
        "role": {"const": "assistant"},
        "content": nullable(STRING),
        "refusal": {"type": "null"},
        "reasoning_content": STRING,
        "reasoning": {**STRING, "description": "the same, in the name that vLLM has for it now"},
        "tool_calls": array(closed({"id": STRING, "type": {"const": "function"}, "function": closed(_FUNCTION)})),
    },
    ["role", "content", "refusal"],
)
_CALL_DELTA = closed(
    {"index": COUNT, "id": STRING, "type": {"const": "function"}, "function": closed(_FUNCTION, ["arguments"])},
    ["index", "function"],
)
_DELTA = closed(
    {
        "role": {"const": "assistant"},
        "content": nullable(STRING),
        "reasoning_content": STRING,
        "reasoning": {**STRING, "description": "the same, in the name that vLLM has for it now"},
        "tool_calls": array(_CALL_DELTA),
    },
    [],
)


def _chat_choice(told: dict[str, Schema], ends: list[str | None], more: dict[str, Schema]) -> Schema:
    fields = {
        "index": COUNT,
        **told,
        "logprobs": nullable(ref("ChatLogprobs")),
        "finish_reason": {"enum": ends},
    }
    others = {"chain_trace": ref("ChainTrace"), "token_ids": _TOKEN_IDS, **more, **_OF_ENDS}
    return closed({**fields, **others}, list(fields))


_CHAT_CHOICE = _chat_choice({"message": _MESSAGE}, [*_ENDS, "tool_calls"], {})
_CHAT_CHUNK_CHOICE = _chat_choice({"delta": _DELTA}, [*_ENDS, "tool_calls", None], _OF_PROMPT)
_NODE = closed(
    {
        "node": COUNT,
        "parent": COUNT,
        "token_id": COUNT,
        "token": STRING,
        "score": NUMBER,
        "fate": {"enum": ["live", "complete", "dropped"]},
    }
)
_DECODING_EVENT = closed(
    {
        "id": STRING,
        "object": {"const": "penstock.decoding"},
        "created": COUNT,
        "model": STRING,
        "choices": array({}, maxItems=0),
        "prompt": COUNT,
        "step": {"type": "integer", "minimum": 1},
        "nodes": array(_NODE),
        "dropped": array(COUNT),
        "settled": array(closed({"index": COUNT, "node": COUNT})),
        "tentative": nullable(closed({"index": COUNT, "text": STRING, "retracted": COUNT})),
    },
    description="The data of an event of the kind `penstock.decoding`: one step of one prompt's search.",
)
