"""What a spool makes of gaps: so much of a stream is over, though it does not stand there."""

from __future__ import annotations

import asyncio

import msgspec

from runner.ports import Gap
from tests.conformance.spool_harness import KEY, Opener


def test_what_a_gap_names_counts_as_read_also_after_a_restart(open_spool: Opener) -> None:
    """Reading goes on behind it; one that names no stream or no size says nothing of where that is."""
    wanted = {"stdout": 5 + 1000, "stderr": 3 + 7}

    async def count() -> dict[str, int]:
        async with open_spool() as spool:
            written = await spool.bytes_written(KEY, 1)
        return {stream: written[stream] for stream in wanted}

    async def main() -> None:
        async with open_spool() as spool:
            await spool.append(KEY, 1, "stdout", b"line\n")
            for gap in (Gap("stdout", 1000, 20), Gap("stderr", 7), Gap("stdout"), Gap(bytes=99), Gap(reason="lost")):
                await spool.append(KEY, 1, "gap", msgspec.json.encode(gap))
            await spool.append(KEY, 1, "stderr", b"err")
        assert wanted == await count()
        async with open_spool() as spool:
            seal = await spool.seal(KEY, 1)
        assert (8, 2, 5) == (seal.bytes, seal.lines, seal.gaps)

    asyncio.run(main())
