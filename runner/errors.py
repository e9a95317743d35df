"""
Every error that crosses a room's wall, one tree.

    RunnerError
    ├── BadInput             somebody's job, message or file is wrong: an outcome, never a crash
    │   ├── Refused          a service answered no, or the content is unacceptable
    │   │   └── NoSuchQueue  a queue that was only to be looked at is not there
    │   └── UsageError       a command line or configuration that cannot be used
    ├── Unavailable          a service did not answer, or not in time
    │   ├── RuntimeMissing   this box lacks what a job is run by, or runs in
    │   └── SecretMissing    this box cannot give a secret that a job asks for
    ├── ImageGone            an image that was there is not there any more
    ├── LeaseLost            the claim belongs to another box now
    ├── AlreadyStored        a receipt of this attempt stands already
    ├── OutOfSpace           a disk or its inodes are full
    └── ConfigurationError   the runner cannot start like this
        └── StateLocked      another runner holds this state directory

Decisions use ``code`` and ``retryable``, never the text.
"""

from __future__ import annotations

from typing import ClassVar


class RunnerError(Exception):
    """
    Something that the runner knows by name went wrong.

    The text says what was attempted, on what, and what to do; never a secret, never a job's environment.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        """Return the text, or the class's own first sentence where none was given."""
        return super().__str__() or (self.__doc__ or "").strip().splitlines()[0]


class BadInput(RunnerError):
    """What somebody handed in cannot be used as it is."""

    code = "bad_input"


class Refused(BadInput):
    """A service answered no (missing, forbidden, wrong digest), or the content is unacceptable."""

    code = "refused"


class NoSuchQueue(Refused):
    """There is no such queue, and it was not to be made."""

    code = "no_such_queue"


class UsageError(BadInput):
    """The command line cannot be used as it stands."""

    code = "usage"


class Unavailable(RunnerError):
    """A service did not answer, or not in time; the same call may succeed later."""

    code = "unavailable"
    retryable = True


class RuntimeMissing(Unavailable):
    """The box has not what the job needs to be run; a person mends that, and another box may have it."""

    code = "runtime_missing"
    retryable = False


class SecretMissing(Unavailable):
    """The box cannot give a secret that the job asks for; another box may, so it is not waited for here."""

    code = "secret_missing"
    retryable = False


class ImageGone(RunnerError):
    """The image was there when the job was staged, and somebody deleted it since."""

    code = "image_gone"


class LeaseLost(RunnerError):
    """The claim on this message lapsed; another box may have it."""

    code = "lease_lost"


class AlreadyStored(RunnerError):
    """A receipt of this attempt is stored already, by another box or an earlier life of this one."""

    code = "already_stored"


class OutOfSpace(RunnerError):
    """A disk is full, or has no inode left."""

    code = "out_of_space"
    retryable = True


class ConfigurationError(RunnerError):
    """The configuration cannot be used."""

    code = "configuration"


class StateLocked(ConfigurationError):
    """Another runner holds the lock of this state directory."""

    code = "state_locked"
