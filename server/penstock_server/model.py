"""`ServedModel`: the text side of the model being served, and the names it answers to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock_server.text.chat_template import ChatTemplate, load_template
from penstock_server.text.codec import TextCodec
from penstock_server.text.tokenizer import Tokenizer, read_tokenizer_config


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model. `names[0]` is the one that replies and listings give; requests may use any."""

    names: tuple[str, ...]
    codec: TextCodec
    template: ChatTemplate | None

    @classmethod
    def load(cls, folder: Path, names: Sequence[str]) -> "ServedModel":
        """The text side of a checkpoint folder.

        Raises:
            TextError: the tokenizer or the template is missing or broken.
        """
        tokenizer = Tokenizer.load(folder)
        template = load_template(folder, read_tokenizer_config(folder), tokenizer.special_tokens)
        return cls(tuple(names), TextCodec(tokenizer), template)
