"""
Several commands in order, as a few lines of ``sh``, and the exit codes that they leave.

The shell writes each code to a file behind descriptor 5, which the commands do not get. That tells how far a job came,
and never how it ended: its end is the exit of the shell. In a container the job may write to that file, as it is the
shell's user; what it could tamper with are the codes that it could have ended with as well.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from adapters.files import read_small

_CODE_MAX, _DIGITS_MAX = 255, 3

# A subshell makes a name mean a program, never the shell's own `exit` or `cd`, and gives it signals at their defaults.
# Whoever asks the job to end has asked for no further step.
_STEP = """\
first=0 asked=
trap 'asked=1' HUP INT TERM
step() {
    ( exec "$@" < /dev/null 5>&- )
    code=$?
    echo "$code" >&5
    [ "$first" -ne 0 ] || first=$code
    [ -z "$asked" ] || exit 143
"""
_STOPS_AT_THE_FIRST = """\
    [ "$code" -eq 0 ] || exit "$code"
"""


def script(steps: Sequence[Sequence[str]], *, keep_going: bool) -> str:
    """Return the lines; their shell has the file of codes open as 5, and ends as the first that failed."""
    rule = "" if keep_going else _STOPS_AT_THE_FIRST
    lines = [f"step {shlex.join(step)}\n" for step in steps]
    return "".join((_STEP, rule, "}\n", *lines, 'exit "$first"\n'))


def codes(path: str) -> tuple[int, ...]:
    """Read the codes of the steps that ended, as far as there are any; blocks for a moment."""
    found: list[int] = []
    try:
        lines = read_small(path).split(b"\n")[:-1]
    except OSError:
        return ()
    for line in lines:
        if not line.isdigit() or len(line) > _DIGITS_MAX or int(line) > _CODE_MAX:
            break
        found.append(int(line))
    return tuple(found)
