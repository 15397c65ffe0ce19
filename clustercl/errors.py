"""Errors that a user can act on: one sentence each, with the exit code the command line gives them."""


class ClusterclError(Exception):
    """Base of all errors that are reported as one sentence, without a traceback."""

    exit_code = 1
    joint = False  # every process of a training raises it: after the same step, or from the same command line
    told = False  # it stands in the log already, or another process tells it


class DataError(ClusterclError):
    """A file, folder or list does not hold what was wanted of it."""


class RunError(ClusterclError):
    """A run cannot start, go on or finish."""


class UsageError(ClusterclError):
    """The request itself is wrong: an option, a setting or their combination."""

    exit_code = 2


def one_line(error: Exception) -> str:
    """What an error of a library says, for the middle of a sentence: some come with line breaks."""
    return " ".join(str(error).split())
