"""Fields that clients of OpenAI and of other servers may send and that this server does not honour.

Each is listed with the values that ask for nothing, which are accepted; any other value is refused by name.
"""

from collections.abc import Mapping

from penstock_server.errors import BadRequest

# Cannot change an answer here, whatever their value: they tag, route or cache.
INERT = frozenset(
    {
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)

_COMMON: dict[str, tuple[object, ...]] = {
    "store": (False,),
    "guided_decoding_backend": (),
    "spaces_between_special_tokens": (True,),
    "prompt_logprobs": (),
    "logits_processors": (),
    "logprob_token_ids": (),
    "prompt_embeds": (),
    "mm_processor_kwargs": (),
    "kv_transfer_params": (),
    "vllm_xargs": (),
    "request_id": (),
    "lora_path": (),
}

COMPLETION: dict[str, tuple[object, ...]] = _COMMON | {
    "parallel_tool_calls": (True, False),
    "suffix": ("",),
}

CHAT: dict[str, tuple[object, ...]] = _COMMON | {
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning": (),
    "verbosity": (),
    "web_search_options": (),
    "moderation": (),
    "echo": (False,),
    "chat_template": (),
    "documents": ([],),
}


def refuse(fields: Mapping[str, object], neutral: Mapping[str, tuple[object, ...]]) -> dict[str, object]:
    """The fields without those that ask for nothing.

    Raises:
        BadRequest: names a field that asks for something this server does not do.
    """
    kept = {}
    for name, value in fields.items():
        if name in INERT:
            continue
        if name not in neutral:
            kept[name] = value
        elif not any(type(value) is type(idle) and value == idle for idle in neutral[name]):
            raise BadRequest("not supported by this server", name, "unsupported_parameter")
    return kept
