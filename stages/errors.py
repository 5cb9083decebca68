"""The error that stages raise for what a person can put right."""


class InputError(ValueError):
    """Input that cannot be used. The message is one line: the thing, its value, the file, and the way out."""
