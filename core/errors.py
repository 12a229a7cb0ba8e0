"""Errors that a user reads: what was expected, what was found, what to do.

    Hw1Error
    ├── InputError        2   wrong usage: an option, a path, a checkpoint
    ├── EnvironmentFault  4   memory or disk full, an I/O error, a lost node: resumable
    │   └── DeviceFull    4   a batch doesn't fit the device: not tried again
    ├── TooManyRejected   4   more images rejected than the user allows: resumable
    └── Refused           5   the output belongs to another job, or to one that runs

The number is the exit code. Anything else that escapes is a bug of ours and exits with 1.
"""

from typing import ClassVar


class Hw1Error(Exception):
    """An error whose text is for the person at the terminal: one or two lines, no traceback."""

    exit_code: ClassVar[int] = 1


class InputError(Hw1Error):
    """What the user gave cannot be used: an option, a path, a checkpoint."""

    exit_code = 2


class EnvironmentFault(Hw1Error):
    """The machine failed, not an image: the job can be resumed by the same command."""

    exit_code = 4


class DeviceFull(EnvironmentFault):
    """A device's memory doesn't hold what the job puts there: trying it again is of no use."""


class TooManyRejected(Hw1Error):
    """More images were rejected than ``--max-rejected`` allows: the job stopped, resumable."""

    exit_code = 4


class Refused(Hw1Error):
    """The output belongs to another job, or to one that is running now."""

    exit_code = 5
