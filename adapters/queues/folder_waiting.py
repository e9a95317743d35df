"""
The messages that wait: a sorted memory of the ``ready`` directory, and what comes back into it.

Listing a directory of thousands costs milliseconds, so it is listed again only when its time changed and a while
passed, or when the memory is used up; claiming from a memory that is out of date fails, and the next name is tried.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from adapters.files import names_in
from adapters.queues.folder_claims import describe_kind, renamed
from adapters.queues.folder_clock import QueueClock
from adapters.queues.folder_layout import Layout
from adapters.queues.folder_names import (
    Message,
    is_message,
    name_message,
    read_claim,
    read_message,
    read_stamped,
    stamped_name,
    token_message,
)
from adapters.queues.folder_notes import NoteRecord, Notes
from adapters.queues.folder_turns import Turns
from runner.job import Verdict, safe_name

log = logging.getLogger(__name__)

# A message of higher priority from another box is seen this late while others wait here.
RESCAN_S = 0.25
# Of the time spent fetching from a long queue, at most a twentieth goes into listing it.
RESCAN_COST = 20
# Lapsed claims and retries that are due are looked for this often; also lists `ready` where directory times are coarse.
RETURN_S = 1.0
# File times advance in ticks of up to 10 ms: within them a second change leaves the directory's time as it was.
TICK_S = 0.05
# A file that somebody drops in under a name of their own counts as written once it did not change for so long.
SETTLED_S = 1.0


class Waiting:
    """The waiting messages of one queue. Blocks. ``next`` is for one thread, the rest for any."""

    def __init__(
        self,
        layout: Layout,
        notes: Notes,
        *,
        clock: QueueClock,
        now: Callable[[], float],
        lease_s: float,
        holds: Callable[[str], bool],
    ) -> None:
        """Begin with nothing listed; ``holds`` tells whether this process has the claim of a token."""
        self._layout = layout
        self._notes = notes
        self._clock = clock
        self._now = now
        self._lease_s = lease_s
        self._holds = holds
        self._lock = threading.Lock()
        # Names of waiting messages in their turn; some may be claimed by now.
        self._names = Turns()
        # The last call found nothing among them that is wanted now.
        self._used_up = True
        # When `ready` was listed (monotonic), its time then, whether that time tells every later change.
        self._listed_at = float("-inf")
        self._listed_mtime_ns = -1
        self._mtime_tells = False
        self._list_s = 0.0
        self._return_at = float("-inf")
        # Claims held here that were seen lapsed, and when first (monotonic).
        self._lapsed_here: dict[str, float] = {}
        # Foreign names that could not be moved away, so that each is complained of once.
        self._stuck: set[str] = set()

    def next(self, served: Mapping[str, float]) -> str | None:
        """
        Return the name of the message to try next; each is returned once until it is listed again.

        ``served`` is by the tags of users; infinite for one who is passed over.
        """
        self._bring_back()
        with self._lock:
            if self._worth_listing():
                self._list()
            name = self._names.pop(served)
            self._used_up = name is None
        return name if name is None or is_message(name) else self._take_in_one(name)

    def add(self, name: str) -> None:
        """Remember a message that this process just made wait, if anybody fetches here."""
        with self._lock:
            if self._listed_mtime_ns >= 0:
                self._names.add(name)

    def expect(self, after_s: float) -> None:
        """Look for retries that are due no later than in ``after_s`` seconds."""
        self._return_at = min(self._return_at, time.monotonic() + after_s)

    def count(self) -> int:
        """Count the messages that wait now."""
        return len(names_in(self._layout.path("ready")))

    def of_job(self, job_id: str) -> list[tuple[str, str]]:
        """List the waiting messages of a job, also delayed ones: where each stands, and its name there."""
        wanted = safe_name(job_id)
        ready = [("ready", name, name) for name in names_in(self._layout.path("ready"))]
        later = [("later", name, name.partition("~")[2]) for name in names_in(self._layout.path("later"))]
        return [(part, name) for part, name, text in (*ready, *later) if _is_job(text, job_id, wanted)]

    def _worth_listing(self) -> bool:
        since_s = time.monotonic() - self._listed_at
        pause_s = max(0.0 if self._used_up else RESCAN_S, RESCAN_COST * self._list_s)
        if self._names and since_s < pause_s:
            return False
        if (self._used_up or not self._names) and since_s >= RETURN_S:
            return True
        return not self._mtime_tells or os.stat(self._layout.path("ready")).st_mtime_ns != self._listed_mtime_ns

    def _list(self) -> None:
        path = self._layout.path("ready")
        started_at = time.monotonic()
        self._listed_mtime_ns = os.stat(path).st_mtime_ns
        self._mtime_tells = abs(self._clock.now() - self._listed_mtime_ns / 1e9) > TICK_S
        names = os.listdir(path)
        # Looking closer costs five times as much; what only resembles a message is seen when its turn comes.
        ours = [name for name in names if name[10:11] == "-" == name[27:28]]
        self._names = Turns(ours if len(ours) == len(names) else [*ours, *self._taken_in(names)])
        self._listed_at = time.monotonic()
        self._list_s = self._listed_at - started_at

    def _taken_in(self, names: list[str]) -> Iterator[str]:
        """Give each file that was dropped in under a foreign name one of ours."""
        for name in names:
            if not name.startswith(".") and name not in self._stuck and not is_message(name):
                taken = self._take_in_one(name)
                if taken:
                    yield taken

    def _take_in_one(self, name: str) -> str | None:
        path = self._layout.path("ready", name)
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and abs(self._clock.now() - status.st_mtime_ns / 1e9) < SETTLED_S:
                return None
            message = name_message(priority=0, at=self._now(), submission=secrets.token_hex(12), user="", job_id="")
            if not stat.S_ISREG(status.st_mode):
                self._bury(path, message, f"{name} is no regular file but {describe_kind(status.st_mode)}")
                return None
            return message if renamed(path, self._layout.path("ready", message)) else None
        except FileNotFoundError:
            return None
        except PermissionError as error:
            self._stuck.add(name)
            log.warning("cannot move a file", extra={"action": "intake_failed", "path": path, "error": str(error)})
            return None

    def _bury(self, path: str, name: str, reason: str) -> None:
        message = read_message(name)
        if message is not None:
            self._notes.write(message.submission, NoteRecord(verdict=Verdict.REJECT, reason=reason))
            renamed(path, self._layout.path("dead", stamped_name(self._now(), name)))

    def _bring_back(self) -> None:
        """Make wait again what lapsed and what is due, once a second, or when the next retry is due."""
        if time.monotonic() < self._return_at:
            return
        now = self._clock.now()
        self._return_at = time.monotonic() + RETURN_S
        self._bring_back_lapsed(now)
        for name in names_in(self._layout.path("later")):
            delayed = read_stamped(name)
            if delayed is not None and delayed[0] <= now:
                self._return(self._layout.path("later", name), delayed[1])
            elif delayed is not None:
                self.expect(delayed[0] - now)

    def _bring_back_lapsed(self, now: float) -> None:
        claims = ((name, read_claim(name)) for name in names_in(self._layout.path("claimed")))
        lapsed = {name: claim[0] for name, claim in claims if claim is not None and claim[1] < now}
        self._lapsed_here = {name: at for name, at in self._lapsed_here.items() if name in lapsed}
        for name, token in lapsed.items():
            if not self._may_be_renewed(name, token):
                self._return(self._layout.path("claimed", name), token_message(token))

    def _may_be_renewed(self, name: str, token: str) -> bool:
        """Give who has it in this process a lease more: a box that slept wakes to this and to its renewals at once."""
        if not self._holds(token):
            return False
        return time.monotonic() - self._lapsed_here.setdefault(name, time.monotonic()) < self._lease_s

    def _return(self, path: str, message: str) -> None:
        if renamed(path, self._layout.path("ready", message)):
            self.add(message)


def _is_job(name: str, job_id: str, wanted: str) -> bool:
    """Tell by a message's name whether it is the job's; who has no id goes by the submission."""
    if not name.endswith(wanted) and job_id not in name:
        return False
    message: Message | None = read_message(name)
    return message is not None and (message.job == wanted or message.submission == job_id)
