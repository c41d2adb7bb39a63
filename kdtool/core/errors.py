"""The two kinds of error that a user may see, and the exit status of each."""


class KdError(Exception):
    """A failure with a cause: what happened, to which file or utterance, both numbers, what to do next. Exit 1."""

    exit_status = 1


class UsageError(KdError):
    """The command line or a config file is wrong; nothing was started. Exit 2."""

    exit_status = 2


def name_file(error: OSError, path: object) -> None:
    """Put a file's name into an error that has none: a failing write (full disk) does not know its own."""
    if error.filename is None:
        error.filename = str(path)
