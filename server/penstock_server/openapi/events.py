"""The schemas of the events of streams whose events are of many kinds: Anthropic's, and those of OpenAI's responses."""

from penstock_server.openapi.shapes import COUNT, NUMBER, STRING, Schema, array, closed, nullable, ref

# Anthropic's

_BLOCKS: Schema = {
    "oneOf": [
        closed({"type": {"const": "text"}, "text": {"const": ""}}),
        closed({"type": {"const": "thinking"}, "thinking": {"const": ""}, "signature": {"const": ""}}),
        closed(
            {"type": {"const": "tool_use"}, "id": STRING, "name": STRING, "input": {"type": "object", "properties": {}}}
        ),
    ]
}
_DELTAS: Schema = {
    "oneOf": [
        closed({"type": {"const": "text_delta"}, "text": STRING}),
        closed({"type": {"const": "thinking_delta"}, "thinking": STRING}),
        closed({"type": {"const": "input_json_delta"}, "partial_json": STRING}),
    ]
}


def anthropic_event(message: Schema) -> Schema:
    """The data of any of Anthropic's events. `message`: the schema of a whole reply."""
    begun = {**message["properties"], "content": array({}, maxItems=0), "stop_reason": {"type": "null"}}
    kinds = {
        "message_start": {"message": {**message, "properties": begun}},
        "content_block_start": {"index": COUNT, "content_block": _BLOCKS},
        "content_block_delta": {"index": COUNT, "delta": _DELTAS},
        "content_block_stop": {"index": COUNT},
        "message_delta": {
            "delta": closed({name: message["properties"][name] for name in ("stop_reason", "stop_sequence")}),
            "usage": ref("AnthropicUsage"),
        },
        "message_stop": {},
        "ping": {},
    }
    options = [closed({"type": {"const": kind}, **fields}) for kind, fields in kinds.items()]
    return {"description": "The data of one of Anthropic's events.", "oneOf": [*options, ref("AnthropicError")]}


# OpenAI's responses'

_IN_ITEM: dict[str, Schema] = {"item_id": STRING, "output_index": COUNT}
_IN_PART = {**_IN_ITEM, "content_index": COUNT}
_CANDIDATE: dict[str, Schema] = {"token": STRING, "bytes": array({**COUNT, "maximum": 255}), "logprob": NUMBER}
LOGPROBS = array(closed({**_CANDIDATE, "top_logprobs": array(closed(_CANDIDATE))}))


def response_event(message: Schema, thought: Schema, call: Schema) -> Schema:
    """The data of any of the events of responses. The schemas of the items are those of whole ones."""
    item: dict[str, Schema] = {"output_index": COUNT, "item": {"oneOf": [message, thought, call]}}
    part: Schema = {"oneOf": [one["properties"]["content"]["items"] for one in (message, thought)]}
    whole: dict[str, Schema] = {"response": ref("ResponseObject")}
    ends = ("created", "in_progress", "completed", "incomplete", "failed")
    kinds: dict[str, dict[str, Schema]] = {
        **{f"response.{end}": whole for end in ends},
        **{f"response.output_item.{end}": item for end in ("added", "done")},
        **{f"response.content_part.{end}": {**_IN_PART, "part": part} for end in ("added", "done")},
        "response.output_text.delta": {**_IN_PART, "delta": STRING, "logprobs": LOGPROBS},
        "response.output_text.done": {**_IN_PART, "text": STRING, "logprobs": LOGPROBS},
        "response.reasoning_text.delta": {**_IN_PART, "delta": STRING},
        "response.reasoning_text.done": {**_IN_PART, "text": STRING},
        "response.function_call_arguments.delta": {**_IN_ITEM, "delta": STRING},
        "response.function_call_arguments.done": {**_IN_ITEM, "arguments": STRING, "name": STRING},
        "error": {"code": nullable(STRING), "message": STRING, "param": nullable(STRING)},
    }
    options = [closed({"type": {"const": kind}, "sequence_number": COUNT, **fields}) for kind, fields in kinds.items()]
    return {"description": "The data of one of OpenAI's events.", "oneOf": options}
