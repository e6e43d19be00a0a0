"""`Tokenizer`: text to token ids, by the checkpoint's tokenizer.json, as transformers' AutoTokenizer encodes.

Reads no Python code of a checkpoint and no other format than tokenizer.json. Token ids back to text is
`text/detokenizer.py`.
"""

import functools
import json
from pathlib import Path
from typing import Any

import tokenizers

from penstock_server.text.errors import TokenizerError
from penstock_server.text.vocabulary import Vocabulary, read_vocabulary, showing_special

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Tokenizer:
    """One checkpoint's tokenizer. Safe to use from several threads.

    Attributes:
        special_tokens: name to text, as chat templates see them (`bos_token`, `eos_token`, ...).
        vocabulary: what each id contributes to a text.
        num_ids: one more than the largest token id.
        longest_token: characters of the longest token: a text of c characters has at least c / longest_token tokens.
    """

    def __init__(self, inner: tokenizers.Tokenizer, special_tokens: dict[str, str]) -> None:
        self._inner = inner
        self.special_tokens = special_tokens
        self.vocabulary: Vocabulary = read_vocabulary(inner)
        self._showing: dict[frozenset[int] | None, Vocabulary] = {frozenset(): self.vocabulary}
        self.longest_token = max(map(len, inner.get_vocab()), default=1)
        self.num_ids = max(inner.get_vocab().values(), default=-1) + 1
        self._holding = functools.lru_cache(maxsize=256)(self._find_holding)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """The tokenizer of a checkpoint folder.

        Raises:
            TokenizerError: a file is missing or broken; the message names it.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(f"{folder} has no tokenizer.json; only checkpoints with one can be served")
        try:
            inner = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise TokenizerError(f"{path} cannot be read: {error}") from None
        inner.no_truncation()
        inner.no_padding()
        config = read_tokenizer_config(folder)
        special_tokens = _special_tokens(config)
        _add_missing(inner, config, special_tokens)
        return cls(inner, special_tokens)

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text, if the tokenizer names one."""
        token = self.special_tokens.get("bos_token")
        return None if token is None else self._inner.token_to_id(token)

    def showing(self, shown: frozenset[int] | None) -> Vocabulary:
        """The vocabulary in whose texts these special tokens are written out; None: all of them."""
        if shown not in self._showing:
            self._showing[shown] = showing_special(self.vocabulary, shown)
        return self._showing[shown]

    def id_of(self, text: str) -> int | None:
        """The id of the token that the vocabulary writes so, special or not, if there is one."""
        return self._inner.token_to_id(text)

    def special_id(self, text: str) -> int | None:
        """The id of the special token of this text, if there is one."""
        token_id = self._inner.token_to_id(text)
        return token_id if token_id in self.vocabulary.special_ids else None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; the tokenizer's own template adds e.g. a begin-of-text token if asked."""
        return self._inner.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_with_spans(
        self, text: str, *, add_special_tokens: bool = True
    ) -> list[tuple[int, tuple[int, int] | None]]:
        """Each token's id, and from where to where in `text` it stands, in characters; None if it was added to it."""
        encoded = self._inner.encode(text, add_special_tokens=add_special_tokens)
        spans = zip(encoded.offsets, encoded.special_tokens_mask, strict=True)
        return [(i, None if added else span) for i, (span, added) in zip(encoded.ids, spans, strict=True)]

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = True) -> str:
        """The text of the ids."""
        return self._inner.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def label(self, token_id: int) -> str:
        """The token as text, for people. One that is part of a character reads like `bytes:\\xe4\\xbd`, so that
        different tokens keep different labels."""
        raw = self.own_bytes(token_id)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def own_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for, whatever its neighbours."""
        return self.vocabulary.own_bytes(token_id)

    def holding(self, text: str) -> tuple[int, ...]:
        """Ids of all tokens, but special ones, that hold these characters. The first call reads the vocabulary: a
        third of a second if it has 150 000 tokens; what was found is remembered."""
        return self._holding(text)

    @functools.cached_property
    def _ordinary_tokens(self) -> tuple[tuple[int, bytes], ...]:
        ids = sorted(set(self._inner.get_vocab().values()) - self.vocabulary.special_ids)
        return tuple((token_id, self.own_bytes(token_id)) for token_id in ids)

    def _find_holding(self, text: str) -> tuple[int, ...]:
        sought = text.encode()
        return tuple(token_id for token_id, own in self._ordinary_tokens if sought in own)


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with special_tokens_map.json below it; {} when neither is there.

    Raises:
        TokenizerError: a file is not a JSON object.
    """
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise TokenizerError(f"{path} is not JSON: {error}") from None
        if not isinstance(read, dict):
            raise TokenizerError(f"{path} is not a JSON object")
        config |= read
    return config


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    # Any "<name>_token" names a token, as in transformers: models bring names of their own (image_token, ...).
    named = {key: _content(value) for key, value in config.items() if key.endswith("_token")}
    extra = config.get("extra_special_tokens")
    if isinstance(extra, dict):
        named |= {key: _content(value) for key, value in extra.items()}
    return {key: value for key, value in named.items() if value is not None}


def _content(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _add_missing(inner: tokenizers.Tokenizer, config: dict[str, Any], special_tokens: dict[str, str]) -> None:
    # transformers adds what tokenizer_config.json names and tokenizer.json lacks, in order of their ids.
    known = {token.content for token in inner.get_added_tokens_decoder().values()}
    declared = config.get("added_tokens_decoder")
    entries = sorted(declared.items(), key=lambda item: int(item[0])) if isinstance(declared, dict) else []
    for _, entry in entries:
        if isinstance(entry, dict) and entry.get("content") not in known:
            flags = {key: bool(entry[key]) for key in ("single_word", "lstrip", "rstrip", "normalized") if key in entry}
            token = tokenizers.AddedToken(str(entry["content"]), special=bool(entry.get("special")), **flags)
            inner.add_special_tokens([token]) if token.special else inner.add_tokens([token])
            known.add(token.content)
    missing = [special_tokens[name] for name in _NAMED_TOKENS if special_tokens.get(name, "") not in known | {""}]
    inner.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in missing])
