"""Requests to copy. A test sends each of them to a real server."""

from typing import Any

from penstock_server.context import ServerContext

Examples = dict[str, dict[str, Any]]
"""A request's body by what it shows."""

_ASKED = [{"role": "user", "content": "What is 3 plus 4?"}]
_WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]},
}
_YES_OR_NO = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


def examples(context: ServerContext) -> dict[str, Examples]:
    """By path; those that need a chat template only if the model has one, and those with tools likewise."""
    has_chat, has_tools = context.model.template is not None, context.model.tool_format is not None
    told: dict[str, Examples] = {
        "/v1/completions": _COMPLETIONS,
        "/v1/chat/completions": _CHAT if has_chat else {},
        "/v1/responses": _RESPONSES if has_chat else {},
        "/v1/embeddings": _EMBEDDINGS,
        "/v1/score": _SCORE,
        "/v1/messages": _MESSAGES if has_chat else {},
        "/v1/messages/count_tokens": _COUNT_TOKENS if has_chat else {},
        "/tokenize": _TOKENIZE | (_TOKENIZE_CHAT if has_chat else {}),
        "/detokenize": _DETOKENIZE,
        "/apply_template": _APPLY_TEMPLATE if has_chat else {},
    }
    if has_tools:
        for path, more in _WITH_TOOLS.items():
            told[path] = told[path] | more
    model = context.model.names[0]
    return {path: {name: {"model": model, **body} for name, body in bodies.items()} for path, bodies in told.items()}


_COMPLETIONS: Examples = {
    "a continuation": {"prompt": "Once upon a time", "max_tokens": 16, "seed": 7},
    "streamed, with the counts of tokens": {
        "prompt": "Once upon a time",
        "max_tokens": 16,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "several prompts, two answers each, with log-probabilities": {
        "prompt": ["Once upon a time", "The sea"],
        "n": 2,
        "max_tokens": 8,
        "logprobs": 3,
    },
    "the log-probabilities of a text, nothing generated": {
        "prompt": "Once upon a time",
        "echo": True,
        "logprobs": 1,
        "prompt_logprobs": 2,
        "max_tokens": 0,
    },
    "a prompt of token ids": {"prompt": [1, 2, 3], "max_tokens": 4, "return_token_ids": True},
    "truncated sampling": {
        "prompt": "Once",
        "max_tokens": 16,
        "temperature": 0.8,
        "top_p": 0.95,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
    },
    "a chain in an order of one's own": {
        "prompt": "Once",
        "max_tokens": 16,
        "decoding": {
            "strategy": "sample",
            "chain": [{"penalties": {"repetition": 1.1}}, {"temperature": 0.8}, {"top_k": 40}, {"min_p": 0.05}],
        },
    },
    "beam search": {"prompt": "Once", "max_tokens": 12, "decoding": {"strategy": "beam", "width": 4, "n": 2}},
    "random answers that differ": {
        "prompt": "Once",
        "max_tokens": 8,
        "decoding": {"strategy": "stochastic_beam", "width": 3},
    },
    "an answer that matches a regex": {"prompt": "The number is ", "guided_regex": "[0-9]{1,3}", "max_tokens": 8},
}
_CHAT: Examples = {
    "a question": {"messages": _ASKED, "temperature": 0, "max_tokens": 24},
    "streamed": {"messages": _ASKED, "max_tokens": 24, "stream": True},
    "with log-probabilities": {"messages": _ASKED, "max_tokens": 4, "logprobs": True, "top_logprobs": 2},
    "JSON that follows a schema": {
        "messages": [{"role": "user", "content": "Is a mouse as big as a house?"}],
        "max_tokens": 40,
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": _YES_OR_NO}},
    },
    "an answer that is continued": {
        "messages": [*_ASKED, {"role": "assistant", "content": "3 + 4 ="}],
        "continue_final_message": True,
        "max_tokens": 8,
    },
    "a search, watched": {
        "messages": _ASKED,
        "max_tokens": 6,
        "num_beams": 2,
        "stream": True,
        "stream_options": {"decoding_events": True},
    },
}
_RESPONSES: Examples = {
    "a text": {"input": "What is 3 plus 4?", "max_output_tokens": 24},
    "items, streamed": {
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "What is 3 plus 4?"}]}],
        "max_output_tokens": 16,
        "stream": True,
    },
    "JSON that follows a schema, kept for later": {
        "input": "Is a mouse as big as a house?",
        "text": {"format": {"type": "json_schema", "name": "reply", "schema": _YES_OR_NO}},
        "max_output_tokens": 40,
        "store": True,
    },
}
_MESSAGES: Examples = {
    "a question": {"max_tokens": 24, "messages": _ASKED},
    "streamed, with a system's message": {
        "max_tokens": 24,
        "system": "Be brief.",
        "messages": _ASKED,
        "stream": True,
    },
    "JSON that follows a schema": {
        "max_tokens": 40,
        "messages": _ASKED,
        "output_config": {"format": {"type": "json_schema", "schema": _YES_OR_NO}},
    },
}
_EMBEDDINGS: Examples = {
    "two texts": {"input": ["The water turns the wheel.", "The wheel is turned by the water."]},
    "fewer dimensions, as base64": {"input": "The sea", "dimensions": 16, "encoding_format": "base64"},
    "token ids, the state of the last one as it is": {"input": [1, 2, 3], "pooling": "last", "normalize": False},
}
_SCORE: Examples = {
    "texts": {"input": ["Once upon a time", "Time a upon once"], "logprobs": 1},
    "an answer to a question": {"context": "Q: What is 3 plus 4?\nA:", "input": " 7"},
    "labels to choose from": {"input": "The sea is", "labels": [" blue", " loud", " dry"]},
}
_COUNT_TOKENS: Examples = {"a question": {"messages": _ASKED}}
_TOKENIZE: Examples = {"a text": {"prompt": "Once upon a time", "return_token_strs": True}}
_TOKENIZE_CHAT: Examples = {"a conversation": {"messages": _ASKED}}
_DETOKENIZE: Examples = {"tokens": {"tokens": [1, 2, 3]}}
_APPLY_TEMPLATE: Examples = {"a conversation": {"messages": _ASKED}}
_WITH_TOOLS: dict[str, Examples] = {
    "/v1/chat/completions": {
        "a function to call": {
            "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
            "tools": [{"type": "function", "function": _WEATHER}],
            "tool_choice": "required",
            "max_tokens": 64,
        }
    },
    "/v1/responses": {
        "a function to call": {
            "input": "How is the weather in Oslo?",
            "tools": [{"type": "function", **_WEATHER}],
            "tool_choice": "required",
            "max_output_tokens": 64,
        }
    },
    "/v1/messages": {
        "a function to call": {
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "How is the weather in Oslo?"}],
            "tools": [
                {
                    "name": _WEATHER["name"],
                    "description": _WEATHER["description"],
                    "input_schema": _WEATHER["parameters"],
                }
            ],
            "tool_choice": {"type": "any"},
        }
    },
}
