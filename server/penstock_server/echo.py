"""`Echo`: a completion's prompt as a part of its answers' text, with the places of its tokens if they are told."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock_server.answer_form import SPEECH
from penstock_server.model import ServedModel
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.prompts import Prompt
from penstock_server.text.token_places import place_text, place_tokens


@dataclass(frozen=True, slots=True)
class Echo:
    """What goes before each answer's text. `places`: where each of the prompt's tokens begins in `text`, in characters;
    None unless the reply tells of them as it does of the answer's."""

    text: str = ""
    places: Sequence[int] | None = None


def echo_of(body: CompletionBody, given: Prompt, kept: Sequence[int], model: ServedModel, *, is_cut: bool) -> Echo:
    """What the body asks for.

    `kept`: the prompt's tokens; `is_cut`: `given` had more of them. A text is echoed as it was given, whatever its
    tokens would decode to.
    """
    if not body.echo:
        return Echo()
    tokenizer, is_told = model.codec.tokenizer, body.num_logprobs is not None
    if is_cut or not isinstance(given, str):
        shown = SPEECH.shown_special if body.skip_special_tokens else None
        text, places = place_tokens(kept, tokenizer.showing(shown))
        return Echo(text, places if is_told else None)
    if not is_told:
        return Echo(given)
    placed = place_text(given, tokenizer, add_special_tokens=body.add_special_tokens)
    # An empty text has become the one token that begins a document.
    return Echo(given, [token.place for token in placed] or [0])
