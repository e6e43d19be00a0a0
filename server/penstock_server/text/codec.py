"""`TextCodec`: encode prompts and open answers' texts. What the server, and the engine in process, need of text."""

from collections.abc import Sequence
from pathlib import Path

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_server.text.answer_text import AnswerText
from penstock_server.text.detokenizer import open_detokenizer
from penstock_server.text.part_encoder import PartEncoder
from penstock_server.text.token_bytes import token_bytes
from penstock_server.text.tokenizer import Tokenizer


class TextCodec:
    """A checkpoint's text in both directions."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> "TextCodec":
        """The codec of a checkpoint folder; raises `TokenizerError`."""
        return cls(Tokenizer.load(folder))

    def encode(self, text: str) -> list[int]:
        """A prompt's token ids, special tokens added as the tokenizer says."""
        return self.tokenizer.encode(text)

    def vocabulary(self) -> Vocabulary | None:
        """The bytes of every token; a third of a second for 150 000 of them. None if tokens have none of their own."""
        return token_bytes(self.tokenizer)

    def encoder(self, *, is_continuation: bool = False) -> PartEncoder:
        """Token ids of texts that are parts of an answer. `is_continuation`: as in `open_stream`."""
        return PartEncoder(self.tokenizer, is_continuation=is_continuation)

    def open_stream(
        self,
        stop: Sequence[str] = (),
        *,
        min_tokens: int = 0,
        is_continuation: bool = False,
        includes_stop: bool = False,
        shown_special: frozenset[int] | None = frozenset(),
    ) -> AnswerText:
        """The text of a new answer that ends before the first of the `stop` strings, or with it if `includes_stop`.

        `is_continuation`: see `open_detokenizer`. `shown_special`: these special tokens are written out; None: all.
        """
        vocabulary = self.tokenizer.showing(shown_special)
        detokenizer = open_detokenizer(vocabulary, is_continuation=is_continuation)
        return AnswerText(detokenizer, stop, min_tokens, includes_stop=includes_stop)
