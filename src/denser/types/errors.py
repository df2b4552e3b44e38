"""The exception for input that cannot be used."""


class InputError(ValueError):
    """Bad input: the message is one sentence that says what, where and what to do.

    The command line prints it and exits with code 2. Every other exception is a bug and keeps its
    traceback.
    """
