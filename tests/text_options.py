"""Cells of the matrix: what the options of text do, with every strategy."""

from collections.abc import Awaitable, Callable

from decoding_matrix import END, PROMPT, Matrix, body, contents, joined

OPTION = Callable[[Matrix, str], Awaitable[None]]


async def include_stop_str_in_output(matrix: Matrix, strategy: str) -> None:
    """What ends an answer, a string or a token, is the end of its text; it ends there in any case."""
    whole = await matrix.ask(body(strategy, ignore_eos=True))
    string = whole.choices[0]["text"][4:6]
    for more in ({"stop": string}, {"stop_token_ids": [matrix.codec.tokenizer.encode(string[0])[0]]}):
        without = await matrix.ask(body(strategy, ignore_eos=True, **more))
        reply = await matrix.ask(body(strategy, ignore_eos=True, include_stop_str_in_output=True, **more))
        end = string if "stop" in more else string[0]
        assert contents(reply) == [
            (text + end if reason == "stop" else text, reason) for text, reason in contents(without)
        ]
        # A constrained search can keep clear of a token that would end it without its words.
        assert "stop" in {reason for _, reason in contents(reply)} or strategy == "constrained_beam"


async def skip_special_tokens(matrix: Matrix, strategy: str) -> None:
    """The end of text is written out like other tokens; what is chosen is the same."""
    fields = body(strategy, ignore_eos=True, n=6 if strategy == "sample" else 2)
    hidden, reply = await matrix.ask(fields), await matrix.ask({**fields, "skip_special_tokens": False})
    label = matrix.codec.tokenizer.label(END)
    for before, after in zip(hidden.choices, reply.choices, strict=True):
        assert matrix.tokens(after) == matrix.tokens(before)
        assert after["text"] == matrix.codec.tokenizer.decode(matrix.tokens(after), skip_special_tokens=False)
        assert after["text"].replace(label, "") == before["text"]


async def return_token_ids(matrix: Matrix, strategy: str) -> None:
    """The prompt's and the answer's, also those cut off with the text; streamed, the prompt's once."""
    string = (await matrix.ask(body(strategy, ignore_eos=True))).choices[0]["text"][4:6]
    plain = await matrix.ask(body(strategy, stop=string))
    fields = body(strategy, stop=string, return_token_ids=True)
    reply, streamed = await matrix.ask(fields), await matrix.ask({**fields, "stream": True})
    for before, after in zip(plain.choices, reply.choices, strict=True):
        assert {key: after[key] for key in before} == before
        assert after["token_ids"] == matrix.tokens(after) and after["prompt_token_ids"] == PROMPT
    pieces = [choice for _, data in streamed.events for choice in data["choices"]]
    for index, choice in enumerate(reply.choices):
        own = [piece for piece in pieces if piece["index"] == index]
        assert [token for piece in own for token in piece["token_ids"]] == choice["token_ids"]
        assert [piece["prompt_token_ids"] for piece in own if "prompt_token_ids" in piece] == [PROMPT]
    lean = await matrix.ask({**fields, "logprobs": None, "processed_logprobs": None})
    assert [choice["token_ids"] for choice in lean.choices] == [choice["token_ids"] for choice in reply.choices]
    assert {choice["logprobs"] for choice in lean.choices} == {None}


async def return_tokens_as_token_ids(matrix: Matrix, strategy: str) -> None:
    """Tokens are named by their ids; nothing else changes."""
    plain = await matrix.ask(body(strategy))
    reply = await matrix.ask(body(strategy, return_tokens_as_token_ids=True))
    assert contents(reply) == contents(plain)
    for before, after in zip(plain.choices, reply.choices, strict=True):
        ids = matrix.tokens(before)
        for told in (after["logprobs"], after["logprobs"]["processed_logprobs"]):
            assert told["tokens"] == [f"token_id:{token}" for token in ids]
            assert all(key.startswith("token_id:") for top in told["top_logprobs"] for key in top)
            # Several tokens can have one text, which hides all but one; ids hide none.
            assert all(len(top) >= 20 for top in told["top_logprobs"])


async def truncate_prompt_tokens(matrix: Matrix, strategy: str) -> None:
    """The last so many tokens are the prompt; -1 takes what the context has room for."""
    for count, kept in ((3, PROMPT[-3:]), (len(PROMPT), PROMPT), (100, PROMPT)):
        reply = await matrix.ask(body(strategy, truncate_prompt_tokens=count))
        alone = await matrix.ask(body(strategy, prompt=kept))
        assert reply.choices == alone.choices and reply.json["usage"] == alone.json["usage"]
    long = [40 + i % 7 for i in range(400)]
    assert (await matrix.ask(body(strategy, prompt=long))).refused_field == "prompt"
    reply = await matrix.ask(body(strategy, prompt=long, truncate_prompt_tokens=-1))
    assert reply.choices == (await matrix.ask(body(strategy, prompt=long[-248:]))).choices
    assert (await matrix.ask(body(strategy, truncate_prompt_tokens=0))).refused_field == "truncate_prompt_tokens"
    echoed = await matrix.ask(body(strategy, truncate_prompt_tokens=3, echo=True, logprobs=None))
    lead = matrix.codec.tokenizer.decode(PROMPT[-3:])
    assert all(text.startswith(lead) for text, _ in contents(echoed))


async def truncation_side(matrix: Matrix, strategy: str) -> None:
    """Which end of the prompt is kept; without a truncation it says nothing."""
    for side, kept in (("left", PROMPT[-3:]), ("right", PROMPT[:3])):
        reply = await matrix.ask(body(strategy, truncate_prompt_tokens=3, truncation_side=side, echo=True))
        assert reply.choices == (await matrix.ask(body(strategy, prompt=kept, echo=True))).choices
    assert (await matrix.ask(body(strategy, truncation_side="right"))).choices == (
        await matrix.ask(body(strategy))
    ).choices
    assert (await matrix.ask(body(strategy, truncation_side="middle"))).refused_field == "truncation_side"


async def add_special_tokens(matrix: Matrix, strategy: str) -> None:
    """Whether the tokenizer puts its own tokens around a text."""
    for adds in (True, False):
        ids = matrix.codec.tokenizer.encode("IJK", add_special_tokens=adds)
        reply = await matrix.ask(body(strategy, prompt="IJK", add_special_tokens=adds))
        assert reply.choices == (await matrix.ask(body(strategy, prompt=ids))).choices


async def together(matrix: Matrix, strategy: str) -> None:
    """All of them streamed are all of them whole."""
    fields = body(strategy, include_stop_str_in_output=True, skip_special_tokens=False, stop="J", ignore_eos=True)
    streamed = await matrix.ask({**fields, "stream": True})
    assert joined(streamed.events) == (await matrix.ask(fields)).choices


TEXT_OPTIONS: dict[str, OPTION] = {
    "include_stop_str_in_output": include_stop_str_in_output,
    "skip_special_tokens": skip_special_tokens,
    "return_token_ids": return_token_ids,
    "return_tokens_as_token_ids": return_tokens_as_token_ids,
    "truncate_prompt_tokens": truncate_prompt_tokens,
    "truncation_side": truncation_side,
    "add_special_tokens": add_special_tokens,
    "all options of text": together,
}
