"""How the demo's jobs and its credential file come into the world: by the same doors as everybody's."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.folder_urls import folder_url
from runner.cli.demo.cast import Part
from runner.cli.demo.stage import Stage
from runner.cli.submission import checked
from runner.cli.target import open_target

if TYPE_CHECKING:
    from runner.ports import Results

CREDENTIAL = "local.toml"


async def submit_all(stage: Stage, parts: Sequence[Part]) -> None:
    """Put all jobs into the queue, in order; their files go into its result backend first."""
    from adapters.wire.native import encode_job

    wanted = argparse.Namespace(queue=folder_url(str(stage.queue)), results=None, state_dir=str(stage.state))
    async with open_target(wanted, make=True) as target:
        documents = [{**part.document, "inputs": await _uploaded(part, target.results)} for part in parts]
        for document in documents:
            job = checked(document, str(document["id"]))
            await target.queue.put(encode_job(job, "json"), job_id=job.id, user=job.user)


def ids_in_queue(stage: Stage) -> set[str]:
    """Name the jobs that stand in the queue, also those that a runner has claimed."""
    from adapters.queues.folder_peek import claimed_messages, waiting_messages

    root = str(stage.queue)
    return {message.job for message in (*waiting_messages(root), *claimed_messages(root))}


async def _uploaded(part: Part, results: Results) -> list[dict[str, object]]:
    return [
        {"url": await results.put_upload(str(source.file)), "path": source.path, "unpack": source.unpack}
        for source in part.sources
    ]


def write_credential(stage: Stage) -> float:
    """Drop the credential file into the watched directory, whole; return when, in epoch seconds."""
    url = f"{folder_url(str(stage.queue.parent))}?queue={stage.queue.name}"
    rights = {"kind": "folder", "url": url, "runtime": "process"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**rights, "paths": [str(stage.directory)]}.items()]
    draft = stage.scratch / CREDENTIAL
    draft.touch(mode=0o600)
    draft.write_text("\n".join(lines) + "\n", "utf-8")
    written_at = time.time()
    draft.rename(stage.certs / CREDENTIAL)
    return written_at
