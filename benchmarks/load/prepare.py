"""Before anything is timed: find the server, its model, and what random prompts for it are made of."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from load.errors import FlagError, NotReady
from load.files import read_prompts
from load.prompts import (
    GivenPrompts,
    Prompt,
    PromptSource,
    RandomPrompts,
    SharedPrefixPrompts,
    TracedPrompts,
)
from load.settings import PromptChoice, Settings
from load.target import Reply, Target, ask, choose_model, list_models, read_body
from load.template import RequestTemplate
from load.vocabulary import Ids, Vocabulary, find_words, ids_below

_NUM_PROBE_IDS = 8
# What a server may add to a prompt of ids: a token that begins a text, and then one that ends it.
_MOST_ADDED = 2
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A server that is ready, and the requests to send it. `prompt_form` is "ids", "text" or "given"."""

    target: Target
    model_len: int | None
    source: PromptSource
    template: RequestTemplate
    prompt_form: str


def prepare(settings: Settings, base: str) -> Prepared:
    """Ask the server what it serves, and send one request of the kind that will be measured.

    Raises:
        NotReady: there is no server, or it refuses that request.
        FlagError: prompts cannot be as they were asked for.
    """
    return asyncio.run(_prepare(settings, base))


async def _prepare(settings: Settings, base: str) -> Prepared:
    target = Target(base, settings.server.endpoint, api_key=settings.server.api_key)
    async with aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session:
        model = choose_model(await list_models(session, target, settings.server.wait), settings.server.model)
        target = replace(target, model=model["id"])
        try:
            vocabulary = await _vocabulary(session, target, settings.prompts)
            template = RequestTemplate(target.model, target.is_chat, settings.ignore_eos, settings.fields)
            source = _source(settings.prompts, vocabulary, target.is_chat)
            await _check_request(session, target, template, source)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotReady(f"{target.url} did not answer: {type(error).__name__}: {error}") from None
    length = model.get("max_model_len")
    form = "given" if vocabulary is None else "ids" if isinstance(vocabulary, Ids) else "text"
    return Prepared(target, length if isinstance(length, int) else None, source, template, form)


def _source(choice: PromptChoice, vocabulary: Vocabulary | None, is_chat: bool) -> PromptSource:
    if choice.kind == "file":
        assert choice.path is not None, "prompts of a file have a path"
        return GivenPrompts(read_prompts(choice.path, choice.lengths.output_len, is_chat))
    if choice.kind == "trace":
        if vocabulary is not None:
            shortest = min(request.input_len for request in choice.trace if request.content is None)
            _check_length("--trace", shortest, vocabulary)
        return TracedPrompts(vocabulary, choice.trace, choice.seed)
    assert vocabulary is not None, "random prompts have a vocabulary"
    if choice.kind == "random":
        _check_length("--input-len", choice.lengths.shortest_input, vocabulary)
        return RandomPrompts(vocabulary, choice.lengths, choice.seed)
    return SharedPrefixPrompts(vocabulary, choice.lengths, choice.prefix_len, choice.num_prefixes, choice.seed)


def _check_length(flag: str, shortest: int, vocabulary: Vocabulary) -> None:
    if shortest < vocabulary.overhead:
        raise FlagError(
            flag, f"a prompt of {shortest} tokens cannot be: this server counts {vocabulary.overhead} for an empty one"
        )


async def _vocabulary(session: aiohttp.ClientSession, target: Target, choice: PromptChoice) -> Vocabulary | None:
    """None where every prompt is given."""
    is_given = choice.kind == "trace" and all(request.content is not None for request in choice.trace)
    if choice.kind == "file" or is_given:
        return None
    if not target.is_chat and choice.form != "text":
        ids = await _ids(session, target, choice)
        if ids is not None:
            return ids

    async def count_tokens(text: str) -> int | None:
        return await _count_tokens(session, target, text)

    return await find_words(count_tokens)


async def _ids(session: aiohttp.ClientSession, target: Target, choice: PromptChoice) -> Ids | None:
    """The ids to draw from, if the server takes ids; else None, where text may be sent in their place."""
    ids = ids_below(choice.vocab_size)
    highest = ids.content([ids.size - 1 - i % ids.size for i in range(_NUM_PROBE_IDS)])
    reply = await ask(session, target, _probe(target, highest))
    if reply.status == 200:
        num_tokens = _prompt_tokens(reply)
        added = 0 if num_tokens is None else num_tokens - _NUM_PROBE_IDS
        if 0 <= added <= _MOST_ADDED:
            return ids_below(choice.vocab_size, added)
        problem = f"the server counts {num_tokens} tokens in a prompt of {_NUM_PROBE_IDS} ids"
    elif reply.status in (400, 415, 422):
        problem = f"the server refuses token ids ({reply.status}): {reply.message}"
    else:
        raise _refused(target, reply)
    if choice.form == "ids":
        raise FlagError("--prompt-form", f"ids: {problem}")
    return None


async def _count_tokens(session: aiohttp.ClientSession, target: Target, text: str) -> int | None:
    reply = await ask(session, target, _probe(target, text))
    if reply.status != 200:
        raise _refused(target, reply)
    return _prompt_tokens(reply)


def _probe(target: Target, content: str | list[int]) -> dict[str, Any]:
    """A request for one token, and not for a stream."""
    template = RequestTemplate(target.model, target.is_chat, fields={"stream": None, "stream_options": None})
    return template.fields_of(Prompt(content, 1))


def _prompt_tokens(reply: Reply) -> int | None:
    usage = reply.body.get("usage") if isinstance(reply.body, dict) else None
    number = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return number if type(number) is int else None


async def _check_request(
    session: aiohttp.ClientSession, target: Target, template: RequestTemplate, source: PromptSource
) -> None:
    """One request like those that will be sent, so that what a server refuses is said before a load runs.

    Its answer is not waited for: closing the connection ends it.
    """
    body = template.body(source.prompt(0, 0))
    async with session.post(target.url, data=body, headers=target.headers) as response:
        if response.status == 200:
            return
        reply = Reply(response.status, read_body(await response.read()))
    raise _refused(target, reply)


def _refused(target: Target, reply: Reply) -> NotReady:
    hint = "; give --api-key or PENSTOCK_API_KEY" if reply.status in (401, 403) else ""
    return NotReady(f"{target.url} refuses the request with {reply.status}: {reply.message}{hint}")
