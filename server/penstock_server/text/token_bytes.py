"""The bytes of every token, for what must know texts where there is no tokenizer: the grammars in the engine."""

from penstock_decoding.grammar.vocabulary import Vocabulary
from penstock_server.text.tokenizer import Tokenizer
from penstock_server.text.vocabulary import PieceVocabulary


def token_bytes(tokenizer: Tokenizer) -> Vocabulary | None:
    """Every token's bytes; None if the text of several tokens is more than theirs one after the other.

    A tokenizer that drops a space at the very start of a text drops it there from an answer too.
    """
    vocabulary = tokenizer.vocabulary
    if isinstance(vocabulary, PieceVocabulary) and vocabulary.rules.separator:
        return None
    special_ids = sorted(vocabulary.special_ids)
    tokens = [b"" if i in vocabulary.special_ids else vocabulary.own_bytes(i) for i in range(tokenizer.num_ids)]
    names = [(vocabulary.lookup(i) or "", i) for i in special_ids]
    return Vocabulary(tuple(tokens), tuple((name, i) for name, i in names if name))
