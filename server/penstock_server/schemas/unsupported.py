"""Fields that clients of OpenAI and of other servers may send and that this server does not honour.

Each is listed with the values that ask for nothing, which are accepted; any other value is refused by name.
"""

from collections.abc import Collection, Mapping

from penstock_server.errors import BadRequest

# Cannot change an answer here, whatever their value: they tag, route or cache.
INERT = frozenset(
    {
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "session_id",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
    }
)

# vLLM's, of every route that generates: what it does beside decoding, and what only its other routes read.
VLLM: dict[str, tuple[object, ...]] = {
    "request_id": (),
    "spaces_between_special_tokens": (True,),
    "watermarking": (False,),
    "vllm_xargs": ({},),
    "kv_transfer_params": ({},),
    "ec_transfer_params": ({},),
    "media_io_kwargs": ({},),
    "mm_processor_kwargs": ({},),
    "mm_payload": ("tensors", "none"),
    "return_mm_kwargs": (True, False),
}

_COMMON: dict[str, tuple[object, ...]] = VLLM | {
    "store": (False,),
    "guided_decoding_backend": ("auto",),
    "logits_processors": ([],),
    "logprob_token_ids": ([],),
    "prompt_embeds": (),
    "lora_path": (),
    "repetition_detection": (),
    "return_token_offsets": (False,),
    "return_weight_versions": (False,),
    "routed_experts_prompt_start": (0,),
    "stream_interval": (1,),
    "thinking_token_budget": (-1,),
}

COMPLETION: dict[str, tuple[object, ...]] = _COMMON | {
    "parallel_tool_calls": (True, False),
}

CHAT: dict[str, tuple[object, ...]] = _COMMON | {
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning": ({},),
    "verbosity": ("medium",),
    "web_search_options": (),
    "moderation": (),
    "echo": (False,),
    "chat_template": (),
    "documents": ([],),
    "return_prompt_text": (False,),
}


def refuse(
    fields: Mapping[str, object], neutral: Mapping[str, tuple[object, ...]], inert: Collection[str] = INERT
) -> dict[str, object]:
    """The fields without those that ask for nothing: inert ones, and those of `neutral` with a value that it lists.

    Raises:
        BadRequest: names a field that asks for something this server does not do.
    """
    kept = {}
    for name, value in fields.items():
        if name in inert:
            continue
        if name not in neutral:
            kept[name] = value
        elif not any(type(value) is type(idle) and value == idle for idle in neutral[name]):
            raise BadRequest("not supported by this server", name, "unsupported_parameter")
    return kept
