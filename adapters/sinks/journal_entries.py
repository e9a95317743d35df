"""Records as entries of the systemd journal in its native form. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adapters.sinks.chunks import chunks
from adapters.sinks.log_text import event_text, shown
from adapters.sinks.syslog_text import APP, INFORMATIONAL, PRIORITIES
from runner.job import Key
from runner.ports import LogLine
from runner.receipt import Event


class JournalForm:
    """An entry for every run of output, with all of its bytes; the newline at its end goes, since readers add one."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def line(self, line: LogLine, key: Key, job_id: str) -> Iterator[bytes]:
        """Yield the entry of a run."""
        about = {"RUNNER_ATTEMPT": str(line.attempt), "RUNNER_SEQUENCE": str(line.sequence)}
        text = (shown(line).encode() if line.stream == "gap" else line.data).removesuffix(b"\n")
        yield self._entry(line.stream, key, job_id, {**about, "RUNNER_TIME_NS": str(line.at_ns)}, text)

    def event(self, event: Event, key: Key, job_id: str) -> Iterator[bytes]:
        """Yield the entry of a state change."""
        about = {"RUNNER_ATTEMPT": str(event.attempt), "RUNNER_STATE": event.state}
        yield self._entry("event", key, job_id, about, event_text(event).encode())

    def joined(self, lines: list[LogLine]) -> Iterator[LogLine]:
        """Put together what becomes one entry: the journal drops all above a number of entries a second."""
        return chunks(lines)

    def _entry(self, stream: str, key: Key, job_id: str, about: Mapping[str, str], message: bytes) -> bytes:
        fields = {
            "PRIORITY": str(PRIORITIES.get(stream, INFORMATIONAL)),
            "SYSLOG_IDENTIFIER": APP,
            "JOB_ID": job_id,
            "RUNNER_KEY": key,
            "RUNNER_QUEUE": self._queue,
            "RUNNER_STREAM": stream,
            **about,
        }
        encoded = (_field(name, text.encode("utf-8", "surrogateescape")) for name, text in fields.items())
        return b"".join((*encoded, _field("MESSAGE", message)))


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%b=%b\n" % (name.encode(), value)
    return b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
