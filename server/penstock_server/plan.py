"""`Plan`: everything one HTTP request asks for, decided before any of it is generated.

The one place where a schema becomes `GenerationRequest`s. Invariant: what a plan holds can be served as it stands, but
for the engine's own refusals; every 400 that can be told beforehand is raised here.
"""

import asyncio
import functools
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_decoding.errors import ParameterError
from penstock_decoding.flat_fields import FLAT_FIELDS
from penstock_decoding.params import DecodingParams, read_decoding
from penstock_engine.config import EngineInfo
from penstock_engine.request import GenerationRequest, PromptReading, StopConditions
from penstock_server.answer_form import SPEECH, AnswerForm, answer_form
from penstock_server.echo import Echo, echo_of
from penstock_server.errors import BadRequest
from penstock_server.infilling import asked_infill, infill_prompts
from penstock_server.model import ServedModel
from penstock_server.prompt_tokens import (
    check_characters,
    check_model,
    check_token_id,
    check_told,
    encoded,
    is_long,
)
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import DEFAULT_MAX_TOKENS, CompletionBody
from penstock_server.schemas.fields import GenerationFields
from penstock_server.schemas.prompts import params_of
from penstock_server.settings import ServerConfig
from penstock_server.text.chat_template import required
from penstock_server.text.infill import Infill
from penstock_server.tools.offer import ToolOffer

DEFAULTS = ServerConfig()

# Choices of one request: each has a state here and a row in the engine.
MAX_CHOICES = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """One HTTP request.

    Attributes:
        requests: one per prompt; answer i of prompt p is choice p * num_choices + i of the reply.
        echoes: per prompt what goes before each of its answers; an empty text unless asked for.
        max_tokens: most tokens of one answer; with 0 the engine is asked only if the prompts are to be read.
        counts_each_chunk: each chunk of a stream has the tokens so far.
        num_prompt_logprobs: how many of the likeliest tokens are told beside each token of the prompt, in a field of
            their own.
        stop_token_ids: those of the body, but for the model's own ends; `stop`: the strings.
        form: what an answer is made of, for APIs that tell its parts.
        shown_special: special tokens that are written out in the text, None: all.
        includes_stop: the stop string or token that ends an answer is part of its text.
        tells_token_ids: the reply has the ids of prompt and answer; `labels_by_id`: tokens are named by their ids.
        warnings: fields of the request that were passed over, and why.
        step_params: where in the body each processor of the chain was asked for, by its name.
        is_continuation: the answers go on after a text (completions), rather than beginning one (chat).
    """

    id: str
    created: int
    model: str
    requests: tuple[GenerationRequest, ...]
    echoes: tuple[Echo, ...]
    num_choices: int
    max_tokens: int
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    min_tokens: int
    num_logprobs: int | None
    num_processed_logprobs: int | None
    num_prompt_logprobs: int | None
    has_chain_trace: bool
    seed: int
    is_stream: bool
    is_watched: bool
    includes_usage: bool
    counts_each_chunk: bool
    is_continuation: bool
    form: AnswerForm
    shown_special: frozenset[int] | None
    includes_stop: bool
    tells_token_ids: bool
    labels_by_id: bool
    warnings: tuple[str, ...]
    step_params: Mapping[str, str]

    @property
    def tells_tokens(self) -> bool:
        """Whether something is told of each token, beside the text."""
        return self.tells_token_ids or self.has_logprobs or self.has_chain_trace

    @property
    def has_logprobs(self) -> bool:
        """Whether choices have an object `logprobs`."""
        return self.num_logprobs is not None or self.num_processed_logprobs is not None

    @property
    def asks_engine(self) -> bool:
        """Whether there is anything to compute."""
        return self.max_tokens > 0 or self.requests[0].reading is not None

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)


async def plan_completion(
    body: CompletionBody,
    model: ServedModel,
    info: EngineInfo,
    catalogue: Catalogue = SHIPPED,
    config: ServerConfig = DEFAULTS,
) -> Plan:
    """
    Raises:
        ApiError, ParameterError: names the field.
    """
    check_model(body.model, model)
    infill = asked_infill(body, model)
    if is_long((*body.prompt, body.suffix)):
        prompts, echoes = await asyncio.to_thread(_encoded_prompts, body, model, info, infill)
    else:
        prompts, echoes = _encoded_prompts(body, model, info, infill)
    # The default gives way to a long prompt; a number that was asked for does not.
    longest = max(map(len, prompts))
    max_tokens = min(DEFAULT_MAX_TOKENS, info.max_model_len - longest) if body.max_tokens is None else body.max_tokens
    _check_length(longest, max_tokens, info, "prompt", "max_tokens" if body.max_tokens is not None else None)
    decoding = await _decoding(body, body.num_logprobs, model, info, catalogue, config, SPEECH, is_continuation=True)
    own_ends = () if infill is None else infill.end_ids
    return _plan(
        "cmpl-", body, decoding, prompts, echoes, max_tokens, SPEECH, own_ends, is_continuation=True, info=info
    )


async def plan_chat(
    body: ChatBody,
    model: ServedModel,
    info: EngineInfo,
    catalogue: Catalogue = SHIPPED,
    config: ServerConfig = DEFAULTS,
    *,
    prefix: str = "chatcmpl-",
) -> Plan:
    """
    Raises:
        ApiError, ParameterError, TemplateError
    """
    check_model(body.model, model)
    offer = body.offer()
    text, prompt = await asyncio.to_thread(encoded_chat, body, offer, model, info)
    form = answer_form(body, offer, model, text)
    if not prompt:
        raise BadRequest("the chat template made an empty prompt of these messages", "messages", "invalid_value")
    prompt = list(_truncated(prompt, body, info))
    asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    field = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
    max_tokens = info.max_model_len - len(prompt) if asked is None else asked
    _check_length(len(prompt), max_tokens, info, "messages", field if asked is not None else None)
    continues = body.continue_final_message
    decoding = await _decoding(body, body.num_logprobs, model, info, catalogue, config, form, is_continuation=continues)
    return _plan(prefix, body, decoding, [prompt], (Echo(),), max_tokens, form, is_continuation=continues, info=info)


async def count_chat(
    body: ChatBody,
    model: ServedModel,
    info: EngineInfo,
    catalogue: Catalogue = SHIPPED,
    config: ServerConfig = DEFAULTS,
) -> int:
    """The tokens of a prompt, whose request is checked as if it were to be answered, but for what has room.

    Raises:
        ApiError, ParameterError, TemplateError
    """
    check_model(body.model, model)
    offer = body.offer()
    text, prompt = await asyncio.to_thread(encoded_chat, body, offer, model, info)
    form = answer_form(body, offer, model, text)
    continues = body.continue_final_message
    await _decoding(body, body.num_logprobs, model, info, catalogue, config, form, is_continuation=continues)
    return len(prompt)


async def _decoding(
    body: GenerationFields,
    num_logprobs: int | None,
    model: ServedModel,
    info: EngineInfo,
    catalogue: Catalogue,
    config: ServerConfig,
    form: AnswerForm,
    *,
    is_continuation: bool,
) -> DecodingParams:
    _check_num_logprobs(body, num_logprobs, config.max_logprobs)
    fields = body.decoding_fields() | {"num_logprobs": num_logprobs}
    if form.grammar is not None:
        fields |= _grammar_fields(fields, form.grammar)
    encoder = model.codec.encoder(is_continuation=is_continuation)
    read = functools.partial(
        read_decoding,
        fields,
        vocab_size=info.vocab_size,
        max_choices=config.max_n,
        catalogue=catalogue,
        encoder=encoder,
    )
    # A list of allowed answers can be a hundred thousand texts, and DRY's breakers are sought in the whole vocabulary;
    # numbers are read in less than a thread takes to start.
    is_long = bool(body.dry_multiplier) or any(isinstance(value, (list, dict)) for value in fields.values())
    try:
        return await asyncio.to_thread(read) if is_long else read()
    except ParameterError as error:
        if form.grammar is not None and error.param in ("guided_grammar", "decoding.chain[0].grammar.lark"):
            raise ParameterError(form.grammar_param, error.message) from None
        structured = body.structured()
        if structured is None or not error.param.startswith(structured.field):
            raise
        raise ParameterError(structured.renamed(error.param), structured.told(error.message)) from None


def _grammar_fields(fields: Mapping[str, object], grammar: str) -> dict[str, object]:
    """The fields that make this grammar a part of the chain, whoever gives the chain. Its own JSON is part of it."""
    decoding = fields.get("decoding")
    if isinstance(decoding, Mapping) and isinstance(decoding.get("chain"), list):
        return {"decoding": {**decoding, "chain": [{"grammar": {"lark": grammar}}, *decoding["chain"]]}}
    return {"guided_json": None, "guided_grammar": grammar}


def _check_num_logprobs(body: GenerationFields, num_logprobs: int | None, most: int) -> None:
    field = "top_logprobs" if isinstance(body, ChatBody) else "logprobs"
    others = {"processed_logprobs": body.processed_logprobs, "prompt_logprobs": body.prompt_logprobs}
    for name, asked in [(field, num_logprobs), *others.items()]:
        if asked is not None and asked > most:
            raise BadRequest(f"must be at most {most} on this server", name, "invalid_value")


def _plan(
    prefix: str,
    body: GenerationFields,
    decoding: DecodingParams,
    prompts: Sequence[Sequence[int]],
    echoes: tuple[Echo, ...],
    max_tokens: int,
    form: AnswerForm,
    own_ends: Sequence[int] = (),
    *,
    is_continuation: bool,
    info: EngineInfo,
) -> Plan:
    """`own_ends`: tokens that end these answers beside those that end any."""
    num_choices = decoding.strategy.params.n
    if len(prompts) * num_choices > MAX_CHOICES:
        told = f"{len(prompts)} prompts with {num_choices} answers each are more than {MAX_CHOICES} in all"
        raise BadRequest(told, "prompt", "invalid_value")
    # The engine, which knows only parameters, could not name these fields.
    for field, num_rows in (("num_beams", body.num_beams), ("best_of", body.best_of)):
        if num_rows is not None and num_rows > info.max_rows:
            told = f"needs {num_rows} rows at once; this server runs at most {info.max_rows}"
            raise BadRequest(told, field, "invalid_value")
    min_tokens = decoding.min_tokens
    if min_tokens > max_tokens:
        raise BadRequest(f"is more than the {max_tokens} tokens an answer may have", "min_tokens", "invalid_value")
    for i, token_id in enumerate(body.stop_token_ids):
        check_token_id(token_id, f"stop_token_ids.{i}", info)
    own_ends = () if body.ignore_eos else (*info.eos_token_ids, *own_ends)
    ends = [*body.stop_token_ids, *own_ends]
    reading = _reading(body, decoding, echoes)
    if reading is not None and reading.num_logprobs is not None:
        param = "logprobs" if body.prompt_logprobs is None else "prompt_logprobs"
        check_told(sum(map(len, prompts)), reading.num_logprobs, param, num_choices)
    if len(prompts) > info.max_queue and (max_tokens > 0 or reading is not None):
        # They are taken all or none: an error 429 would have the client come again for ever.
        told = f"{len(prompts)} prompts are more than the {info.max_queue} requests that may wait on this server"
        raise BadRequest(told, "prompt", "invalid_value")
    stop = StopConditions(max(max_tokens, 1 if reading is None else 0), tuple(dict.fromkeys(ends)), min_tokens)
    options = body.stream_options
    is_watched = options is not None and options.decoding_events
    plan_id = prefix + uuid.uuid4().hex
    return Plan(
        id=plan_id,
        created=int(time.time()),
        model=body.model,
        requests=tuple(
            GenerationRequest(
                f"{plan_id}-{i}", tuple(prompt), decoding, stop, body.priority, body.cache_salt, is_watched, reading
            )
            for i, prompt in enumerate(prompts)
        ),
        echoes=echoes,
        num_choices=num_choices,
        max_tokens=max_tokens,
        stop=body.stop,
        stop_token_ids=frozenset(body.stop_token_ids) - frozenset(own_ends),
        min_tokens=min_tokens,
        num_logprobs=decoding.num_logprobs,
        num_processed_logprobs=decoding.num_processed_logprobs,
        num_prompt_logprobs=body.prompt_logprobs,
        has_chain_trace=decoding.chain_trace,
        seed=decoding.seed,
        is_stream=body.stream,
        is_watched=is_watched,
        includes_usage=options is not None and options.include_usage,
        counts_each_chunk=options is not None and options.continuous_usage_stats,
        is_continuation=is_continuation,
        form=form,
        shown_special=form.shown_special if body.skip_special_tokens else None,
        includes_stop=body.include_stop_str_in_output,
        tells_token_ids=body.return_token_ids,
        labels_by_id=body.return_tokens_as_token_ids,
        warnings=body.warnings,
        step_params=_step_params(body, decoding, form),
    )


def _reading(body: GenerationFields, decoding: DecodingParams, echoes: Sequence[Echo]) -> PromptReading | None:
    """What the reply tells of the prompts' tokens: in a field of their own, or as it does of the answers'."""
    echoed = None if echoes[0].places is None else decoding.num_logprobs
    asked = [count for count in (body.prompt_logprobs, echoed) if count is not None]
    return PromptReading(max(asked)) if asked else None


def _step_params(body: GenerationFields, decoding: DecodingParams, form: AnswerForm) -> dict[str, str]:
    structured, given = body.structured(), body.decoding_fields()
    of_form = {} if form.grammar is None else {"grammar": form.grammar_param}
    if isinstance(body.decoding, dict) and "chain" in body.decoding:
        first = len(of_form)  # the form's own step, which the body does not have
        steps = enumerate(decoding.chain[first:])
        return {step.name: f"decoding.chain.{i}.{step.name}" for i, step in steps} | of_form
    # Of several flat fields the one that is named first in the table.
    fields = {name: field for field, (name, *_) in reversed(FLAT_FIELDS.items()) if given.get(field) is not None}
    return fields | ({} if structured is None else {"grammar": structured.param}) | of_form


def _encoded_prompts(
    body: CompletionBody, model: ServedModel, info: EngineInfo, infill: Infill | None
) -> tuple[list[Sequence[int]], tuple[Echo, ...]]:
    """`infill`: None if there is no suffix."""
    if infill is not None:
        return infill_prompts(body, model, info, infill)
    prompts: list[Sequence[int]] = []
    echoes: list[Echo] = []
    may_be_cut = body.truncate_prompt_tokens is not None
    for given, param in zip(body.prompt, params_of(body.prompt, "prompt"), strict=True):
        whole = encoded(given, param, model, info, add_special_tokens=body.add_special_tokens, is_cut=may_be_cut)
        kept = _truncated(whole, body, info)
        prompts.append(kept)
        echoes.append(echo_of(body, given, kept, model, is_cut=len(kept) < len(whole)))
    return prompts, tuple(echoes)


def encoded_chat(
    body: ChatBody, offer: ToolOffer | None, model: ServedModel, info: EngineInfo
) -> tuple[str, list[int]]:
    """The prompt's text and its token ids."""
    template, variables = required(model.template), dict(body.chat_template_kwargs)
    if body.reasoning_effort is not None:
        if "reasoning_effort" not in template.source:
            told = "this model's chat template does not know it"
            raise BadRequest(told, "reasoning_effort", "unsupported_parameter")
        variables["reasoning_effort"] = body.reasoning_effort
    text = template.render(
        [message.model_dump() for message in body.messages],
        add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
        continues_last=body.continue_final_message,
        tools=None if offer is None else [tool.given for tool in offer.tools],
        variables=variables,
    )
    if body.truncate_prompt_tokens is None:
        check_characters(text, "messages", model, info)
    # The template has written the special tokens, unless the caller knows better.
    return text, model.codec.tokenizer.encode(text, add_special_tokens=body.add_special_tokens)


def _truncated(prompt: Sequence[int], body: GenerationFields, info: EngineInfo) -> Sequence[int]:
    """So many of the prompt's tokens as were asked for; -1: as many as the context has room for."""
    count = body.truncate_prompt_tokens
    if count is None:
        return prompt
    if count < 0:
        asked = getattr(body, "max_completion_tokens", None)
        max_tokens = asked if asked is not None else body.max_tokens
        count = max(info.max_model_len - (1 if max_tokens is None else max_tokens), 1)
    return prompt[:count] if body.truncation_side == "right" else prompt[-count:]


def _check_length(num_prompt: int, max_tokens: int, info: EngineInfo, prompt_param: str, asked: str | None) -> None:
    """`asked` is the field that set `max_tokens`; None if nothing did: then there must be room for one token."""
    if num_prompt + (max_tokens if asked else 1) <= info.max_model_len:
        return
    told = f" and {asked} asks for {max_tokens}: {num_prompt + max_tokens} together" if asked else ""
    raise BadRequest(
        f"the prompt has {num_prompt} tokens{told}; the model's context has {info.max_model_len}",
        asked if asked and num_prompt < info.max_model_len else prompt_param,
        "context_length_exceeded",
    )
