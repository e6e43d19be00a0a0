"""`RequestTemplate`: from a prompt to the bytes of a request's body."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from load.prompts import Prompt


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """What all requests of a load have in common. In `fields` None removes a field that would be sent otherwise."""

    model: str
    is_chat: bool
    ignore_eos: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)

    def fields_of(self, prompt: Prompt) -> dict[str, Any]:
        """The request as JSON values: streamed, with usage."""
        fields: dict[str, Any] = {"model": self.model}
        if not self.is_chat:
            fields["prompt"] = prompt.content
        elif isinstance(prompt.content, str):
            fields["messages"] = [{"role": "user", "content": prompt.content}]
        else:
            fields["messages"] = prompt.content
        if prompt.output_len is not None:
            fields["max_completion_tokens" if self.is_chat else "max_tokens"] = prompt.output_len
        if self.ignore_eos:
            fields["ignore_eos"] = True
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        fields |= self.fields
        return {name: value for name, value in fields.items() if value is not None}

    def body(self, prompt: Prompt) -> bytes:
        return orjson.dumps(self.fields_of(prompt))
