"""The acts: a credential file appears, six jobs share the box, the runner is killed, and how it ended."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec

from adapters.http.client import ControlClient
from runner.cli.demo.account import BoxFacts, DigitsFacts, JobFacts, KillFacts
from runner.cli.demo.cast import EPOCHS, Part, six_jobs
from runner.cli.demo.finding import digits_of, job_facts, lines_of, problems_of
from runner.cli.demo.machine import look_at_machine, runner_options, told
from runner.cli.demo.processes import Process, process_of
from runner.cli.demo.screen import Screen
from runner.cli.demo.service import DemoFailed, Service
from runner.cli.demo.stage import Stage
from runner.cli.demo.submitting import CREDENTIAL, submit_all, write_credential
from runner.cli.demo.tables import INDENT, Line, dotted, ends_table, sparkline, spread, states_table
from runner.cli.demo.watching import Seen, Watch

TRAINING, TO_CANCEL = "digits", "forever"
LOOKED_AT_S, LOOKED_AT_EPOCH, LAST_EPOCH = 5.0, EPOCHS // 3, 2 * EPOCHS // 3
"""
The runner is killed once all jobs could be looked at for so long, or so far, and in any case while the training runs.
"""

SCENE = {"gpu-one": "running", "gpu-two": "waiting", "typo": "ended", "evil.tar": "ended", TO_CANCEL: "running"}
FIRST_START_WITHIN_S, SCENE_WITHIN_S, END_WITHIN_S = 30.0, 180.0, 240.0
ALONE_S = 0.7
"""How long the training goes on without any runner, so that lines stand there that nobody has read."""

LOOK_EVERY_S, START_EVERY_S = 0.2, 0.02


class Show:
    """One demo: what it runs, and what it found so far."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self.stage = stage
        self.box: BoxFacts | None = None
        self.first_start_s: float | None = None
        self.killed: KillFacts | None = None
        self.jobs: tuple[JobFacts, ...] = ()
        self.digits: DigitsFacts | None = None
        self.problems: list[str] = []
        self._screen = screen
        self._watch = Watch(stage.state)
        self._service: Service | None = None
        self._parts: tuple[Part, ...] = ()
        self._seen: dict[str, Seen] = {}

    async def play(self) -> None:
        """
        Play all acts.

        Raises:
            RunnerError: it cannot go on; says why.
        """
        self.box = await look_at_machine(self.stage.temporary)
        self._screen.lines(dotted(" box    ", told(self.box), self._screen.width))
        self._parts = six_jobs(self.box, self.stage.directory, self.stage.scratch)
        service = self._service = Service(self.stage, runner_options(self.box, self.stage.temporary / "gpu-locks"))
        await self._first_job(service)
        await self._share_the_box(service)
        await self._kill_and_go_on(service)
        await self._end(service)

    async def close(self) -> None:
        """Stop the runner that runs, if one does, and let go of its files."""
        if self._service is not None:
            await self._service.stop()
        await self._watch.close()

    # A credential file appears

    async def _first_job(self, service: Service) -> None:
        self._head("1", "A credential file appears in certs/ …")
        await service.start()
        await submit_all(self.stage, self._parts)
        written_at = write_credential(self.stage)
        self.first_start_s = round(await self._first_start() - written_at, 3)
        sources = await asyncio.to_thread(ControlClient(service.socket()).sources)
        found = next((queue.name for source in sources for queue in source.queues if source.file == CREDENTIAL), None)
        if found is None:
            raise DemoFailed(f"no queue was found behind {CREDENTIAL}, though its jobs were started")
        text = f'{INDENT}certs/{CREDENTIAL} written → queue "{found}" found, first job started'
        self._screen.lines(spread(text, f"after {self.first_start_s * 1000:.0f} ms", self._screen.width))

    async def _first_start(self) -> float:
        """Wait until some job's process runs and return since when."""
        ends = time.monotonic() + FIRST_START_WITHIN_S
        while time.monotonic() < ends:
            await self._look()
            running = [process for seen in self._seen.values() if (process := self._process(seen)) is not None]
            if running:
                return min(process.started_at for process in running)
            await asyncio.sleep(START_EVERY_S)
        raise DemoFailed(f"no job was started within {FIRST_START_WITHIN_S:g} s of the credential file")

    # Six jobs share the box

    async def _share_the_box(self, service: Service) -> None:
        self._head("2", "Six jobs share the box …")
        begun = time.monotonic()
        while not self._scene_is_over(time.monotonic() - begun):
            if time.monotonic() > begun + SCENE_WITHIN_S:
                raise DemoFailed(f"the training was not half done after {SCENE_WITHIN_S:g} s")
            service.check_alive()
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()
            self._screen.draw(self._states())
        self._screen.lines(self._states())

    def _scene_is_over(self, looked_at_s: float) -> bool:
        training, epoch = self._seen[TRAINING].state, self._seen[TRAINING].progress.epoch
        if training in {"storing", "ended"}:
            raise DemoFailed("the training ended before the runner could be killed")
        all_there = epoch > 0 and all(self._seen[job_id].state == state for job_id, state in SCENE.items())
        return epoch >= LAST_EPOCH or (all_there and (epoch >= LOOKED_AT_EPOCH or looked_at_s >= LOOKED_AT_S))

    def _states(self) -> list[Line]:
        return states_table(self._parts, self._seen, self._gpus_called(), self._screen.width)

    def _gpus_called(self) -> str:
        return "GPU" if self.box and self.box.gpu_model else "simulated GPU"

    # kill -9

    async def _kill_and_go_on(self, service: Service) -> None:
        killed, training = service.pid, self._process(self._seen[TRAINING])
        if training is None:
            raise DemoFailed("the training has no process while it should run")
        self._head("3", f"kill -9 on the runner (pid {killed}), while {TRAINING} trains …")
        service.kill()
        lines = (await self._look())[TRAINING].lines
        await asyncio.sleep(ALONE_S)
        _must_live(training, "with the runner")
        goes_on = f"the training goes on (pid {training.pid})"
        self._screen.draw(dotted(INDENT, (goes_on,), self._screen.width))
        await service.start()
        adopted = await service.heard("adopt")
        _must_live(training, "when the next runner came")
        again = f"runner started again (pid {service.pid})"
        self._screen.lines(dotted(INDENT, (goes_on, again), self._screen.width))
        took_s, jobs = float(str(adopted["at"])) - service.started_at, int(str(adopted["jobs"]))
        self.killed = KillFacts(killed, training.pid, service.pid, jobs, round(took_s, 3), lines + 1)

    def _taken_back(self, killed: KillFacts, ending: str) -> list[Line]:
        jobs = f"{killed.jobs} job{'' if killed.jobs == 1 else 's'} taken back in {killed.seconds:.2f} s"
        line = f"log goes on at line {killed.resumed_at_line:,}"
        return dotted(INDENT, (jobs, line, ending), self._screen.width)

    # How it ended

    async def _end(self, service: Service) -> None:
        await asyncio.to_thread(ControlClient(service.socket()).cancel, TO_CANCEL)
        await self._all_settled(service)
        status = await service.stop()
        if status != 0:
            self.problems.append(f"the runner was asked to stop and ended with {status}, not 0")
        await self._look()
        self._find()
        self._show_ends()

    async def _all_settled(self, service: Service) -> None:
        ends = time.monotonic() + END_WITHIN_S
        while not all(seen.is_settled for seen in self._seen.values()):
            if time.monotonic() > ends:
                late = [seen.id for seen in self._seen.values() if not seen.is_settled]
                raise DemoFailed(f"{', '.join(late)} did not end within {END_WITHIN_S:g} s")
            service.check_alive()
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()
            if self.killed is not None:
                taken_back = self._taken_back(self.killed, "its lines are counted at the end")
                self._screen.draw([*taken_back, [""], *self._states()])

    def _find(self) -> None:
        """Read what the jobs left, and compare it with what was expected."""
        receipts = {
            seen.id: seen.entry.stored.receipt for seen in self._seen.values() if seen.entry and seen.entry.stored
        }
        self.jobs = tuple(job_facts(part, receipts.get(part.id)) for part in self._parts)
        self.digits = digits_of(self.stage.outputs_of(TRAINING))
        lines = lines_of(receipts.get(TRAINING), self.stage.outputs_of(TRAINING))
        if self.killed is not None and lines is not None:
            self.killed = msgspec.structs.replace(self.killed, lines_lost=lines.lost, lines_twice=lines.twice)
        self.problems += problems_of(self._parts, self.jobs, receipts, lines)

    def _show_ends(self) -> None:
        screen, digits = self._screen, self.digits
        if self.killed is not None:
            ending = f"{self.killed.lines_lost} lines lost, {self.killed.lines_twice} twice"
            screen.lines(self._taken_back(self.killed, ending))
        self._head("4", "How it ended")
        screen.lines(ends_table(self.jobs, screen.width))
        if digits is not None:
            share = f"{100 * digits.right / digits.unseen:.1f} % of {digits.unseen} unseen digits right"
            screen.line(f"{INDENT}{TRAINING}: {share}     loss {sparkline(digits.loss)}")
            screen.line(f"{INDENT}{self.stage.named / TRAINING}/{'  '.join(digits.files)}")

    # All acts

    async def _look(self) -> dict[str, Seen]:
        self._seen = await self._watch.look(tuple(part.id for part in self._parts))
        return self._seen

    def _process(self, seen: Seen) -> Process | None:
        with suppress(OSError):
            return process_of(self.stage.state, seen.container) if seen.container else None
        return None

    def _head(self, number: str, text: str) -> None:
        self._screen.line("")
        self._screen.line((f" {number}  {text}", "bold"))


def _must_live(training: Process, when: str) -> None:
    if not training.is_alive():
        raise DemoFailed(f"the training (process {training.pid}) ended {when}")
