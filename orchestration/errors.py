"""The one error type that a person reads."""


class OrbitforgeError(Exception):
    """Something a person can put right. The message is one line: the thing, its value, and the way out.

    The command line prints the message alone and exits with 1; a traceback is for our own mistakes.
    """
