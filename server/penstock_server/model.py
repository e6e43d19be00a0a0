"""`ServedModel`: the text side of the model being served, and the names it answers to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock_server.text.chat_template import ChatTemplate, load_template
from penstock_server.text.codec import TextCodec
from penstock_server.text.infill import Infill, find_infill
from penstock_server.text.tokenizer import Tokenizer, read_tokenizer_config
from penstock_server.tools.formats import ToolFormat, find_format


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model. `names[0]` is the one that replies and listings give; requests may use any.

    tool_format: how it writes calls of tools, as far as its chat template tells.
    infill: how it is shown a text with a gap, as far as its vocabulary tells.
    """

    names: tuple[str, ...]
    codec: TextCodec
    template: ChatTemplate | None
    tool_format: ToolFormat | None = None
    infill: Infill | None = None

    @classmethod
    def load(cls, folder: Path, names: Sequence[str]) -> "ServedModel":
        """The text side of a checkpoint folder.

        Raises:
            TextError: the tokenizer or the template is missing or broken.
        """
        tokenizer = Tokenizer.load(folder)
        template = load_template(folder, read_tokenizer_config(folder), tokenizer.special_tokens)
        tool_format = None if template is None else find_format(template.source)
        return cls(tuple(names), TextCodec(tokenizer), template, tool_format, find_infill(tokenizer))
