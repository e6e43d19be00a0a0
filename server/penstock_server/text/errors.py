"""The errors of the text side, a tree: catch `TextError` for all of them."""


class TextError(Exception):
    """Root of this package's errors."""


class TokenizerError(TextError):
    """The checkpoint's tokenizer is missing, broken, or of a kind that cannot be decoded piece by piece."""


class TemplateError(TextError):
    """A chat template refused these messages, failed on them, or broke a limit; the message is fit for the caller."""


class NoTemplate(TemplateError):
    """The model has no chat template."""
