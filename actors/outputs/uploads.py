"""What a job left in its workspace, stored where its outputs say. Never decides what becomes of the job's message."""

from __future__ import annotations

import asyncio

import msgspec

from runner.calls import Caller, Patience
from runner.errors import RunnerError
from runner.job import EndReason, Output
from runner.leaving import Leaving, url_of
from runner.ports import CollectedFile, World
from runner.receipt import OutputAccount
from runner.records import ClaimedJob, StagedJob, UploadRecord
from runner.trail import Trail


class Uploads:
    """
    Stores the outputs of jobs, once each; ``patience`` is that of one output.

    Where a job leaves in a hurry, what is not stored in time is missing, and told; the others are stored all the same.
    """

    def __init__(self, world: World, caller: Caller, trail: Trail, patience: Patience) -> None:
        """Keep what to store with."""
        self._world, self._caller, self._trail, self._patience = world, caller, trail, patience

    async def store(self, leaving: Leaving) -> tuple[Leaving, tuple[OutputAccount, ...]]:
        """Upload what the job left; what cannot be stored for good turns a success, and only that, into a failure."""
        claim, ran = leaving.claim, leaving.outcome.started_at is not None
        if leaving.staged is None or not ran or not claim.job.outputs:
            return leaving, ()
        entry = await self._trail.entry(claim.key)
        if entry is not None and entry.uploaded is not None:
            return leaving, entry.uploaded.outputs
        await self._trail.tell_state(claim, "storing")
        try:
            accounts = await self._upload_all(leaving, leaving.staged)
        except RunnerError as error:
            told = await self._trail.covered(str(error))
            await self._trail.say(claim, f"outputs could not be stored: {told}")
            if leaving.outcome.reason is EndReason.SUCCEEDED:
                leaving = leaving.failing(EndReason.OUTPUT_FAILED, told)
            return leaving, tuple(OutputAccount(output.path, problem=told) for output in claim.job.outputs)
        await self._trail.record(claim.key, UploadRecord(accounts, self._world.now()))
        return leaving, accounts

    async def _upload_all(self, leaving: Leaving, staged: StagedJob) -> tuple[OutputAccount, ...]:
        succeeded = leaving.outcome.reason is EndReason.SUCCEEDED
        wanted = [output for output in leaving.claim.job.outputs if output.when == "always" or succeeded]
        taken: dict[str, str] = {}
        if leaving.store_by is None:
            return tuple(
                [one for output in wanted for one in await self._upload_output(leaving, staged, output, taken)]
            )
        # All at once: a store that does not answer must not take the time of the others.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._upload_output(leaving, staged, output, taken)) for output in wanted]
        return tuple(one for task in tasks for one in task.result())

    async def _upload_output(
        self, leaving: Leaving, staged: StagedJob, output: Output, taken: dict[str, str]
    ) -> list[OutputAccount]:
        found = await self._collect(leaving, staged, output)
        checked = [
            msgspec.structs.replace(file, problem=_problem(leaving.claim, output, file, taken)) for file in found
        ]
        return [await self._upload(leaving, output, file) for file in checked]

    async def _collect(self, leaving: Leaving, staged: StagedJob, output: Output) -> tuple[CollectedFile, ...]:
        collect = lambda: self._world.workspaces.collect(staged.workspace, output, leaving.claim.id)  # noqa: E731 - one call, named
        try:
            patience = self._patience.until(leaving.store_by)
            return await self._caller.until_done(collect, f"output {output.path}", patience)
        except RunnerError as error:
            if leaving.store_by is None:
                raise
            return (CollectedFile(output.path, "", "", problem=_too_late(error)),)

    async def _upload(self, leaving: Leaving, output: Output, file: CollectedFile) -> OutputAccount:
        try:
            return await self._upload_file(leaving, output, file)
        except RunnerError as error:
            if leaving.store_by is None:
                raise
            late = msgspec.structs.replace(file, problem=_too_late(error))
            return await self._upload_file(leaving, output, late)

    async def _upload_file(self, leaving: Leaving, output: Output, file: CollectedFile) -> OutputAccount:
        claim = leaving.claim
        if file.problem:
            await self._trail.say(claim, f"output {file.path}: {file.problem}")
            return OutputAccount(file.path, problem=file.problem)
        if not output.url:
            return OutputAccount(file.path, bytes=file.bytes, problem="no url says where it should be stored")
        url = url_of(output, claim.id, file.name)
        store = self._world.open_store(url, claim.rights)
        try:
            patience = self._patience.until(leaving.store_by)
            await self._caller.until_done(lambda: store.put(file.local, url), f"output {file.path}", patience)
        finally:
            await store.close()
        return OutputAccount(file.path, url=url, digest=file.digest, bytes=file.bytes)


def _too_late(error: RunnerError) -> str:
    return f"not stored before the runner had to end: {error}"


def _problem(claim: ClaimedJob, output: Output, file: CollectedFile, taken: dict[str, str]) -> str:
    """Return why a file is not stored: its own problem, or an earlier one that already stands where it would."""
    if file.problem or not output.url:
        return file.problem
    url = url_of(output, claim.id, file.name)
    other = taken.setdefault(url, file.path)
    return "" if other == file.path else f"output {other} stands at {url} already: give one of them another url"
