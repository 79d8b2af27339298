"""The one exception family: what a user can mend is a `DfgsError`, anything else is a bug."""

import difflib
from collections.abc import Iterable


class DfgsError(Exception):
    """A user's mistake; its message is one line: what, where, the value, what would be right.

    The command line prints it as `error: …` and exits with status 2; other exceptions keep their traceback. Line breaks
    and other control characters of a value are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class DivergedError(DfgsError):
    """A training whose loss is no longer finite."""


class BadDataError(DfgsError):
    """An image or a data file that cannot be used."""


class HeldError(DfgsError):
    """Outputs that another job is making."""


class SupersededError(Exception):
    """A job whose outputs another one has taken over meanwhile; it publishes nothing and exits `EXIT_SUPERSEDED`."""


class Preempted(Exception):  # noqa: N818  (nothing went wrong)
    """A job that was asked to leave and has kept its state; the command line exits with `EXIT_PREEMPTED`."""


EXIT_PREEMPTED = 75
"""Exit status of a job that goes on at its next attempt (EX_TEMPFAIL of sysexits.h)."""

EXIT_SUPERSEDED = 76
"""Exit status of a job that another one has taken over (EX_PROTOCOL of sysexits.h)."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` with the name nearest to `name`, else ` (known: …)`.

    >>> did_you_mean("dgfs", ["dfgs", "pk"])
    " (did you mean 'dfgs'?)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(names)})"
