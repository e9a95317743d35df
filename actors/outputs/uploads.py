"""What a job left in its workspace, stored where its outputs say. Never decides what becomes of the job's message."""

from __future__ import annotations

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
    """Stores the outputs of jobs, once each; ``patience`` is that of one output."""

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
            await self._trail.say(claim, f"outputs could not be stored: {error}")
            if leaving.outcome.reason is EndReason.SUCCEEDED:
                leaving = leaving.failing(EndReason.OUTPUT_FAILED, str(error))
            return leaving, tuple(OutputAccount(output.path, problem=str(error)) for output in claim.job.outputs)
        await self._trail.record(claim.key, UploadRecord(accounts, self._world.now()))
        return leaving, accounts

    async def _upload_all(self, leaving: Leaving, staged: StagedJob) -> tuple[OutputAccount, ...]:
        accounts: list[OutputAccount] = []
        taken: dict[str, str] = {}
        succeeded = leaving.outcome.reason is EndReason.SUCCEEDED
        for output in leaving.claim.job.outputs:
            if output.when == "always" or succeeded:
                accounts.extend(await self._upload(leaving.claim, staged, output, taken))
        return tuple(accounts)

    async def _upload(
        self, claim: ClaimedJob, staged: StagedJob, output: Output, taken: dict[str, str]
    ) -> list[OutputAccount]:
        collect = lambda: self._world.workspaces.collect(staged.workspace, output, claim.id)  # noqa: E731 - one call, named
        found = await self._caller.until_done(collect, f"output {output.path}", self._patience)
        checked = [msgspec.structs.replace(file, problem=_problem(claim, output, file, taken)) for file in found]
        return [await self._upload_file(claim, output, file) for file in checked]

    async def _upload_file(self, claim: ClaimedJob, output: Output, file: CollectedFile) -> OutputAccount:
        if file.problem:
            await self._trail.say(claim, f"output {file.path}: {file.problem}")
            return OutputAccount(file.path, problem=file.problem)
        if not output.url:
            return OutputAccount(file.path, bytes=file.bytes, problem="no url says where it should be stored")
        url = url_of(output, claim.id, file.name)
        store = self._world.open_store(url, claim.rights)
        try:
            await self._caller.until_done(lambda: store.put(file.local, url), f"output {file.path}", self._patience)
        finally:
            await store.close()
        return OutputAccount(file.path, url=url, digest=file.digest, bytes=file.bytes)


def _problem(claim: ClaimedJob, output: Output, file: CollectedFile, taken: dict[str, str]) -> str:
    """Return why a file is not stored: its own problem, or an earlier one that already stands where it would."""
    if file.problem or not output.url:
        return file.problem
    url = url_of(output, claim.id, file.name)
    other = taken.setdefault(url, file.path)
    return "" if other == file.path else f"output {other} stands at {url} already: give one of them another url"
