"""The two kinds of errors that users see, with their exit status."""


class KdError(Exception):
    """A failure with a cause: what happened, to which file or utterance, both numbers, what to do next. Exit 1."""

    exit_status = 1


class UsageError(KdError):
    """The command line or a config file is wrong; nothing was started. Exit 2."""

    exit_status = 2


def name_file(error: OSError, path: object) -> None:
    """Add a file's name to an error that lacks it: a failing write (full disk) does not know its file."""
    if error.filename is None:
        error.filename = str(path)
