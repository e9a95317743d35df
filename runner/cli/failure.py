"""What a failure means to whoever typed the command: an exit status and one sentence."""

from __future__ import annotations

from runner.errors import ConfigurationError, RunnerError, Unavailable, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_FAULT = 70
EXIT_CONFIGURATION = 78


def describe(error: Exception) -> tuple[int, str]:
    """Return the exit status and the sentence, always one line."""
    return _status(error), " ".join(_text(error).split())


def first_of(error: Exception) -> Exception:
    """Return the error itself, or of a group the first one that is known by name, else the first."""
    if not isinstance(error, ExceptionGroup):
        return error
    inner = [first_of(one) for one in error.exceptions]
    return next((one for one in inner if isinstance(one, (RunnerError, BrokenPipeError))), inner[0])


def _status(error: Exception) -> int:
    match error:
        case ConfigurationError():
            return EXIT_CONFIGURATION
        case UsageError():
            return EXIT_USAGE
        case Unavailable():
            return EXIT_UNAVAILABLE
        case RunnerError() | OSError():
            return EXIT_FAILED
        case _:
            return EXIT_FAULT


def _text(error: Exception) -> str:
    match error:
        case RunnerError():
            return str(error)
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}"
        case _:
            return f"something unexpected went wrong: {type(error).__name__}: {error}"
