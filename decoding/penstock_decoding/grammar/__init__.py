"""Grammars: what an answer's text may look like, turned into which tokens may come next.

The parser is llguidance (derivatives for the lexer, Earley for the rules), which works on the bytes of tokens. Nothing
here knows a tokenizer: a `Vocabulary` of token bytes is all that is needed.
"""
