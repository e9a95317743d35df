"""
The keys of a result backend in Redis, for how long each is kept, and what all its scripts begin with.

All keys begin with ``{<prefix>:<queue>}:results:``, and every one of them expires.

| key | holds |
| --- | --- |
| ``job:<key>`` | of a job: its id, the newest receipt's row, whose receipt stands, how far each box's log goes |
| ``events:<key>`` | list: the box, a zero byte, the state change as JSON |
| ``log:<key>`` | stream: log records in chunks, oldest trimmed |
| ``bell:<key>``, ``bell:<id>`` | stream of one entry, new whenever the job has something new: what followers wait on |
| ``receipts:<key>`` | by attempt |
| ``archive:<key>:<attempt>`` | the archive of an attempt's log in pieces |
| ``archives:<key>`` | which attempts have one |
| ``id:<id>`` | the key of the newest job of this id |
| ``jobs``, ``active`` | the keys of all jobs, and of those that have not ended, by when each was first heard of |
| ``ended``, ``expires`` | keys by when the job ended, and by when it expires |
| ``sizes``, ``heavy`` | bytes of log and archives by key, ``*`` for all; ended jobs that have any, by end |
| ``upload:<digest>``, ``uploads`` | an upload in pieces, and digests by last use |
| ``partial:<token>`` | an upload or an archive on its way |
| ``stops``, ``beats``, ``beats:at`` | ids to be stopped by when, beats by box, boxes by when |

Needs Redis 6.2. Times are those of the server, so boxes whose clocks differ agree. In ``job:<key>`` a box's log of an
attempt has the fields ``part:<attempt>:<box>`` (sequence wanted next, first and last entry, when its first and its last
record were written, bytes) and, where the oldest of it is gone, ``lost:<attempt>:<box>`` (last sequence lost, when it
was written, bytes lost).
"""

from __future__ import annotations

import hashlib

from runner.job import ID_PATTERN

KEPT_S = 30 * 86_400
"""A job of which nothing is heard for so long will not end any more; uploads that nobody uses go then, too."""
ENDED_KEPT_S = 7 * 86_400
BEAT_KEPT_S = 86_400
PARTIAL_KEPT_S = 3_600
"""An upload or an archive that is not stored whole by then was given up."""
EVENTS_MAX = 1_000
STOPS_MAX = 10_000
BEATS_MAX = 1_000
ENTRY_BYTES = 100
"""What an entry of a stream costs beside its data."""

START = f"""
local S = KEYS[1]
local KEPT, ENDED_KEPT, BEAT_KEPT = {KEPT_S}, {ENDED_KEPT_S}, {BEAT_KEPT_S}
local call = redis.call

local function at(part, name) return S .. part .. ':' .. name end

local function now()
  local time = call('TIME')
  return string.format('%s.%06d', time[1], time[2])
end
"""


def id_name(job_id: str) -> str:
    """Return what stands for an id in a key: itself, or its hash where it is no plain name."""
    return job_id if ID_PATTERN.fullmatch(job_id) else "h" + hashlib.sha256(id_bytes(job_id)).hexdigest()[:32]


def id_bytes(job_id: str) -> bytes:
    """Return an id as it stands in a value; any text has such bytes, and no two the same."""
    return job_id.encode("utf-8", "surrogatepass")


def id_text(content: bytes) -> str:
    """Return the id of such bytes; of others, which somebody else wrote, what is no text is told in words."""
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "backslashreplace")
