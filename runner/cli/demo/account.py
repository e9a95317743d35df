"""What one demo found: the document of ``--json``, also kept as ``demo.json`` beside the outputs."""

from __future__ import annotations

import msgspec


class BoxFacts(msgspec.Struct, frozen=True):
    """
    What this machine gives: cores and bytes of memory for jobs, GPUs to hand out.

    ``gpu_model`` is empty where they are simulated; ``why_simulated`` then says why.
    """

    cores: int
    memory: int
    gpus: int
    gpu_model: str = ""
    why_simulated: str = ""


class JobFacts(msgspec.Struct, frozen=True):
    """
    How one job ended, beside what was expected; both as ``end_reason`` or ``failed, exit 3``.

    ``log_sha256`` is the receipt's; ``log_matches`` tells whether the archive gives the same lines and digest again.
    """

    id: str
    wants: str
    expected: str
    ended_as: str
    message: str = ""
    waited_s: float | None = None
    ran_s: float | None = None
    tries: int = 0
    log_lines: int = 0
    log_sha256: str = ""
    log_matches: bool = True

    @property
    def ok(self) -> bool:
        """Tell whether it went as expected."""
        return self.ended_as == self.expected and self.log_matches


class KillFacts(msgspec.Struct, frozen=True):
    """
    What ``kill -9`` did: who was killed, who went on, who took over and how fast.

    ``seconds`` go from the start of the second runner's process to its word that jobs are taken back; the log goes on
    at ``resumed_at_line``, counted from 1. Lines are the training's numbered steps in the stored archive.
    """

    runner_pid: int
    training_pid: int
    next_runner_pid: int
    jobs: int
    seconds: float
    resumed_at_line: int
    lines_lost: int = 0
    lines_twice: int = 0


class DigitsFacts(msgspec.Struct, frozen=True):
    """What was learnt: digits that were not learnt from, how many of them were read right, the loss of each epoch."""

    unseen: int
    right: int
    loss: tuple[float, ...]
    files: tuple[str, ...]


class Playing(msgspec.Struct, frozen=True):
    """
    What ``demo.json`` says of a demo that has not ended: where its temporary directory is, and what was played.

    ``acts`` counts those that were played to their end. An account reads as one that stands nowhere.
    """

    temporary: str = ""
    acts: int = 0
    box: BoxFacts | None = None
    first_start_s: float | None = None
    kill: KillFacts | None = None


class Account(msgspec.Struct, frozen=True):
    """
    All of it; ``problems`` are sentences, none where all was as expected.

    ``resumed``: it was interrupted before; ``seconds`` are of the last sitting. ``kill`` is None where a training that
    went on meanwhile had ended before any runner could be killed.
    """

    ok: bool
    seconds: float
    directory: str
    log: str
    problems: tuple[str, ...] = ()
    box: BoxFacts | None = None
    first_start_s: float | None = None
    jobs: tuple[JobFacts, ...] = ()
    kill: KillFacts | None = None
    digits: DigitsFacts | None = None
    resumed: bool = False
