"""
How fast output passes the redactor: log lines in chunks of 64 KiB, with 40 secrets in all spellings and the shapes.

Beside it, in turns within one run: a copy of the same chunks in memory and one search for one needle (the limit), and
a peer, an alternation of the same patterns for Python's ``re`` on the same chunks, which misses what lies across two.
Rates are megabytes (10^6 bytes) a second of processor time, medians over the rounds. ``split`` is ours on chunks of
100 bytes, as slow writers make them; ``hits`` is ours where every line holds a secret; ``compile_ms`` is how long one
waits for a set of secrets the first time.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable, Iterable

from adapters.redaction import Mask, Redaction
from adapters.secret_spellings import spellings
from adapters.token_shapes import WHOLE
from bench.report import arguments, report

CHUNK_BYTES, SMALL_BYTES = 64 << 10, 100
TEXT_BYTES = 16 << 20
SECRETS = 40
BARS = {"ours": 100.0}
_LINE = b"2026-11-23 02:03:04,%03d INFO train.loop step=%d loss=%.5f lr=3e-4 tokens/s=%d commit=%s\n"


def log_text(chance: random.Random, size: int) -> bytes:
    """Make lines as training jobs print them."""
    lines = [
        _LINE
        % (chance.randrange(1000), step, chance.random(), chance.randrange(99999), chance.randbytes(20).hex().encode())
        for step in range(20_000)
    ]
    text = b"".join(lines)
    return (text * (size // len(text) + 1))[:size]


def secret_values(chance: random.Random) -> list[bytes]:
    """Make secrets whose spellings differ: some end in what URLs and JSON escape."""
    return [chance.randbytes(18).hex().encode() + (b'/+"?' if number % 2 else b"") for number in range(SECRETS)]


def chunks_of(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def rate(chunks: Iterable[bytes], each: Callable[[bytes], object]) -> float:
    begun, size = time.thread_time(), 0
    for chunk in chunks:
        each(chunk)
        size += len(chunk)
    return size / (time.thread_time() - begun) / 1e6


def peer(values: list[bytes]) -> Callable[[bytes], bytes]:
    """Return the same for one chunk alone, by Python's own expressions."""
    texts = sorted(spellings(values), key=len, reverse=True)
    pattern = re.compile(b"|".join([*map(re.escape, texts), WHOLE]))
    return lambda chunk: pattern.sub(lambda found: b"*" * len(found.group()), chunk)


def measured(rounds: int) -> dict[str, float]:
    """Let all take turns."""
    chance = random.Random(5)  # noqa: S311 - the same text each time
    values, text = secret_values(chance), log_text(chance, TEXT_BYTES)
    begun = time.thread_time()
    redaction = Redaction(values)
    compile_ms = 1000 * (time.thread_time() - begun)
    chunks, small = chunks_of(text, CHUNK_BYTES), chunks_of(text[: TEXT_BYTES // 16], SMALL_BYTES)
    hits = chunks_of(b"".join(b"step %d: %s\n" % (step, values[step % SECRETS]) for step in range(20_000)), CHUNK_BYTES)
    masked = peer(values)
    turns: dict[str, Callable[[], float]] = {
        "ours": lambda: rate(chunks, Mask(redaction).cover),
        "split": lambda: rate(small, Mask(redaction).cover),
        "hits": lambda: rate(hits, Mask(redaction).cover),
        "copy": lambda: rate(chunks, bytearray),
        "find": lambda: rate(chunks, lambda chunk: chunk.find(values[0])),
        "peer": lambda: rate(chunks[:8], masked),
    }
    for turn in turns.values():
        turn()  # patterns grow as they meet texts
    taken = {name: statistics.median([turn() for _ in range(rounds)]) for name, turn in turns.items()}
    return {**{name: round(value, 1) for name, value in taken.items()}, "compile_ms": round(compile_ms, 1)}


def main() -> int:
    """Measure and report."""
    options = arguments(__doc__, rounds=5).parse_args()
    rates = measured(options.rounds)
    rates["over_peer"] = round(rates["ours"] / rates["peer"], 1)
    reached = all(rates[name] >= bar for name, bar in BARS.items())
    facts = {"unit": "MB/s", "rounds": options.rounds, "secrets": SECRETS, "chunk_bytes": CHUNK_BYTES, "bars": BARS}
    return report("redaction", {**facts, **rates, "reached": reached}, options)


if __name__ == "__main__":
    raise SystemExit(main())
