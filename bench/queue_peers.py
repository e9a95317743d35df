"""
The same job as a task of arq and of Celery, two at once, all else as they come; their workers load this module.

Both keep results in Redis: arq does by itself, Celery once it is told where, without which nobody learns how a task
ended.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from typing import ClassVar

from arq.connections import RedisSettings
from celery import Celery

from bench.peers import AT_ONCE

REDIS = "BENCH_QUEUES_REDIS"
"""The environment variable by which workers are told where Redis is."""
ARQ_DATABASE, CELERY_DATABASE, CELERY_RESULTS_DATABASE = 11, 12, 13


def arq_settings(redis: str) -> RedisSettings:
    return RedisSettings.from_dsn(f"{redis}/{ARQ_DATABASE}")


async def run_command(_: object, command: Sequence[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


class WorkerSettings:
    """What the ``arq`` program reads."""

    functions = (run_command,)
    max_jobs = AT_ONCE
    redis_settings: ClassVar = arq_settings(os.environ.get(REDIS, "redis://127.0.0.1"))


def celery_app(redis: str) -> Celery:
    return Celery("bench", broker=f"{redis}/{CELERY_DATABASE}", backend=f"{redis}/{CELERY_RESULTS_DATABASE}")


app = celery_app(os.environ.get(REDIS, "redis://127.0.0.1"))


@app.task(name="run_command")  # type: ignore[untyped-decorator]  # published without types
def run_task(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False).returncode
