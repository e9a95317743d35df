"""What the reference says of sinks: how each is named, and what may stand behind the ``?``."""

from __future__ import annotations

FORMS = {
    "redis": (
        "`redis://HOST:PORT/DB`, `rediss://…`, `unix:///PATH`",
        (
            "chunks of at most 64 KiB as the dialect writes them: published on a channel, and added to a stream "
            "(`data`) for who comes late, each entry named ATTEMPT-(SEQUENCE + 1), the end of an attempt the last. "
            "With neither named both are `runner:{queue}:log:{id}`. A user and a password may stand in the URL; "
            "without, those of a queue on the same server are used"
        ),
    ),
    "file": (
        "`file:///PATH`, with `{id}`, `{key}`, `{queue}` in it, or one for all jobs",
        "`time stream text`, with control bytes escaped; or the JSON of `runner logs --json`",
    ),
    "syslog": (
        "`syslog:///dev/log`, `syslog://HOST:514` (UDP)",
        (
            "a message a line, to a host by RFC 5424; longer than 2048 bytes, in parts `[1/3]`. What a network or"
            " a daemon drops is lost"
        ),
    ),
    "journald": (
        "`journald:`",
        (
            "an entry for each run of lines, with `JOB_ID`, `RUNNER_ATTEMPT`, `RUNNER_SEQUENCE`, `RUNNER_STREAM`:"
            " `journalctl -o cat JOB_ID=NAME`. What is above its limit of entries is lost"
        ),
    ),
}
"""By kind: the URL, and what arrives."""
OPTIONS = {
    "channel": "a name with `{id}` or `{key}`",
    "stream": "a name with `{id}` or `{key}`",
    "maxlen": "entries of a stream, about (10000)",
    "keep": "of Redis: a stream is deleted so long after the last entry (`7d`); of files: older ones kept (5)",
    "db": "the database, of `unix://`",
    "format": "`text` or `json`",
    "rotate": "a larger file is renamed to `.1`, as `10MiB`; absent: never",
    "lag": "further behind than that it goes on near the end, after a record that says what is left out; absent: never",
}
