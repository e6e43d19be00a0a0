"""`Infill`: how a model is shown a text with a gap, so that it writes what belongs there.

The families that learned to do so (Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle")
have tokens of their own for it, by which their vocabularies are known here. The texts of the tokens and the order of
the parts are those of the models' cards and tokenizers. A vocabulary can have the tokens without its model having
learned them; nothing in a checkpoint tells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock_server.text.part_encoder import PartEncoder
from penstock_server.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Infill:
    """One vocabulary's way. Before each part stands a token that says which one it is.

    Attributes:
        prefix_id, suffix_id: the tokens before the parts; `suffix_first`: the suffix is the first of them.
        middle_id: the token before the answer; None: the prefix just goes on.
        end_ids: what ends an answer, beside what ends any text: behind the middle the model may go on with other files.
    """

    prefix_id: int
    suffix_id: int
    middle_id: int | None
    suffix_first: bool
    end_ids: tuple[int, ...]

    def prompt(self, prefix: Sequence[int], suffix: Sequence[int], bos_id: int | None) -> list[int]:
        """The token ids of the whole prompt. A `bos_id` that opens the prefix opens the prompt."""
        num_opening = 1 if prefix and prefix[0] == bos_id else 0
        parts = [self.prefix_id, *prefix[num_opening:]], [self.suffix_id, *suffix]
        first, second = reversed(parts) if self.suffix_first else parts
        return [*prefix[:num_opening], *first, *second, *(() if self.middle_id is None else (self.middle_id,))]


def find_infill(tokenizer: Tokenizer) -> Infill | None:
    """How the model with this vocabulary fills in text; None if the vocabulary is not known to be of one that does."""
    for family in _FAMILIES:
        ids = [tokenizer.id_of(token) for token in (family.prefix, family.suffix, family.middle) if token is not None]
        if None not in ids:
            prefix_id, suffix_id, *middle = (token_id for token_id in ids if token_id is not None)
            ends = [*ids, *map(tokenizer.id_of, family.ends)]
            return Infill(
                prefix_id,
                suffix_id,
                middle[0] if middle else None,
                family.suffix_first,
                tuple(dict.fromkeys(token_id for token_id in ends if token_id is not None)),
            )
    return None


def suffix_tokens(suffix: str, tokenizer: Tokenizer) -> list[int]:
    """The suffix's token ids. It begins in the midst of a text: no tokenizer may put a space before it."""
    return PartEncoder(tokenizer, is_continuation=True).within(suffix)


@dataclass(frozen=True, slots=True)
class _Family:
    """The texts of the tokens. `ends`: those that a vocabulary has; none of them needs to be there."""

    prefix: str
    suffix: str
    middle: str | None
    suffix_first: bool = False
    ends: tuple[str, ...] = ()


# The bars of DeepSeek's tokens are U+FF5C, and the blanks of its and of CodeLlama's are U+2581.
_FAMILIES = (
    # Qwen2.5-Coder and Qwen3, CodeGemma, Granite 4
    _Family(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ends=(
            "<|endoftext|>",
            "<|fim_pad|>",
            "<|file_sep|>",
            "<|repo_name|>",
            "<|file_separator|>",
            "<|filename|>",
            "<|reponame|>",
        ),
    ),
    # StarCoder, StarCoder2, Granite Code and 3, Stable Code, Refact
    _Family(
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
        ends=("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>", "<filename>", "<reponame>"),
    ),
    # SantaCoder
    _Family("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ends=("<|endoftext|>", "<fim-pad>")),
    # DeepSeek-Coder
    _Family(
        "<\uff5cfim▁begin\uff5c>",
        "<\uff5cfim▁hole\uff5c>",
        "<\uff5cfim▁end\uff5c>",
        ends=("<\uff5cend▁of▁sentence\uff5c>",),
    ),
    # CodeLlama, but for its Python models and the one of 34B, which have none
    _Family("▁<PRE>", "▁<SUF>", "▁<MID>", ends=("▁<EOT>",)),
    # Seed-Coder
    _Family("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", suffix_first=True),
    # Codestral
    _Family("[PREFIX]", "[SUFFIX]", None, suffix_first=True, ends=("[MIDDLE]",)),
)
