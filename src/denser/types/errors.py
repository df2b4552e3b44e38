"""The exceptions for input that cannot be used and for results that cannot be written."""


class InputError(ValueError):
    """Bad input: the message is one sentence that says what, where and what to do.

    The command line prints it and exits with code 2. Every other exception is a bug and keeps its
    traceback.
    """


class DiskFull(InputError):
    """A result cannot be written since the disk, or the user's share of it, is full.

    It ends a run on many inputs, whose other results could not be written either.
    """
