"""Answers on stdout, one JSON line for each line on stdin: `table`, `lock UUID`, `unlock UUID`."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from adapters.gpus.nvml import NvmlProbe
from runner.errors import Unavailable
from runner.ports import GpuProbe


async def answer(probe: GpuProbe, request: str) -> object:
    match request.split():
        case ["table"]:
            try:
                return await probe.table()
            except Unavailable as error:
                return {"unavailable": str(error)}
        case ["lock", uuid]:
            return probe.lock(uuid)
        case ["unlock", uuid]:
            probe.unlock(uuid)
            return True
        case _:
            raise ValueError(request)


async def main(locks: str, limit_s: float) -> None:
    probe = NvmlProbe(locks, limit_s)
    while request := await asyncio.to_thread(sys.stdin.readline):
        print(msgspec.json.encode(await answer(probe, request)).decode(), flush=True)
    await probe.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
