"""`GenerationRequest`: what a user asked the engine for. Torch-free, text-free."""

from dataclasses import dataclass

from penstock_decoding.params import DecodingParams


@dataclass(frozen=True, slots=True)
class StopConditions:
    """When an answer ends, told in tokens (stop strings are matched by whoever turns tokens into text).

    `token_ids` end an answer that has at least `min_tokens` tokens before; the ending token is the answer's last one.
    `max_tokens` is the most tokens generated for one answer, at least 1.
    """

    max_tokens: int
    token_ids: tuple[int, ...] = ()
    min_tokens: int = 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request: a prompt, how to choose tokens, when to stop.

    A lower `priority` number is served first; equal ones in order of arrival. Requests with different `cache_salt`
    never share cached prompt blocks. `is_watched`: each step tells what it did to the search.
    """

    id: str
    prompt: tuple[int, ...]
    decoding: DecodingParams
    stop: StopConditions
    priority: int = 0
    cache_salt: str = ""
    is_watched: bool = False
