"""
The runner's state in the text form that Prometheus reads: which credential files can be used, how deep queues are.

Pure. Labels name files and queues, never anything that a file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from runner.receipt import SourceRow

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def metrics(sources: Sequence[SourceRow]) -> str:
    """Return the whole page."""
    usable = ((row.file, None, float(_is_usable(row))) for row in sources)
    depths = (
        (row.file, queue.name, float(queue.depth)) for row in sources for queue in row.queues if queue.depth is not None
    )
    return "".join(
        (
            *_gauge("runner_source_usable", "1: the credential file is read and its service answers; 0: not", usable),
            *_gauge("runner_queue_depth", "messages that wait in a queue, as last seen", depths),
        )
    )


def _is_usable(row: SourceRow) -> bool:
    return not row.reason and row.state in {"in use", "finishing"}


def _gauge(name: str, about: str, values: Iterable[tuple[str, str | None, float]]) -> Iterator[str]:
    yield f"# HELP {name} {about}\n# TYPE {name} gauge\n"
    for file, queue, value in values:
        labels = [("file", file), *([("queue", queue)] if queue is not None else [])]
        shown = ",".join(f'{label}="{text.translate(_ESCAPED)}"' for label, text in labels)
        yield f"{name}{{{shown}}} {value:.0f}\n"
