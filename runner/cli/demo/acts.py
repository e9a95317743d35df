"""
The acts: a credential file appears, six jobs share the box, the runner is killed, and how it ended.

What was played is noted as it is played, so that a demo that was interrupted goes on and repeats nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from adapters.http.client import ControlClient
from runner.cli.demo.account import DigitsFacts, JobFacts, KillFacts, Playing
from runner.cli.demo.cast import EPOCHS, Part, six_jobs
from runner.cli.demo.ending import kill_runner
from runner.cli.demo.finding import digits_of, job_facts, lines_of, problems_of
from runner.cli.demo.machine import look_at_machine, runner_options, told
from runner.cli.demo.processes import Process, process_of
from runner.cli.demo.screen import Screen
from runner.cli.demo.service import DemoFailed, Service
from runner.cli.demo.stage import Stage
from runner.cli.demo.submitting import CREDENTIAL, ids_in_queue, submit_all, write_credential
from runner.cli.demo.tables import INDENT, Line, dotted, ends_table, resumed_told, sparkline, spread, states_table
from runner.cli.demo.watching import Seen, Watch

FIRST_JOB, SHARED, KILL = 1, 2, 3
"""The numbers of the acts, but for the last one, which is played again until it is over."""
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
        self.played = stage.before or Playing(str(stage.temporary))
        self.jobs: tuple[JobFacts, ...] = ()
        self.digits: DigitsFacts | None = None
        self.problems: list[str] = []
        self._screen = screen
        self._watch = Watch(stage.state)
        self._service: Service | None = None
        self._parts: tuple[Part, ...] = ()
        self._seen: dict[str, Seen] = {}
        # Whether the runner was killed in this sitting.
        self._killed_now = False

    async def play(self) -> None:
        """
        Play all acts.

        Raises:
            RunnerError: it cannot go on; says why.
        """
        box = self.played.box or await look_at_machine(self.stage.temporary)
        self._note(box=box)
        self._screen.lines(dotted(" box    ", told(box), self._screen.width))
        self._parts = six_jobs(box, self.stage.directory, self.stage.scratch)
        service = self._service = Service(self.stage, runner_options(box, self.stage.temporary / "gpu-locks"))
        if self.stage.before is not None:
            await self._take_up(service, self.stage.before)
        elif self.stage.anew:
            self._screen.line(f" anew   {self.stage.anew}, so this one begins anew")
        await self._play_on(service)

    async def _play_on(self, service: Service) -> None:
        if self.played.acts < FIRST_JOB:
            await self._first_job(service)
        if self.played.acts < KILL and self._can_be_killed():
            if self.played.acts < SHARED:
                await self._share_the_box(service)
            else:
                await self._look_until(service, lambda _: self._trains())
            await self._kill_and_go_on(service)
        await self._end(service)

    async def close(self) -> None:
        """Stop the runner that runs, if one does, and let go of its files."""
        if self._service is not None:
            await self._service.stop()
        await self._watch.close()

    # Going on where another demo was interrupted

    async def _take_up(self, service: Service, before: Playing) -> None:
        """Start the runner again on what stands there; one that still runs is killed first, and its jobs go on."""
        await kill_runner(self.stage.state)
        if (self.stage.certs / CREDENTIAL).exists():
            self._note(acts=max(before.acts, FIRST_JOB))
        in_queue, seen = len(ids_in_queue(self.stage)), (await self._look()).values()
        await service.start()
        adopted = int(str((await service.heard("adopt"))["jobs"]))
        ended, wait = sum(job.is_settled for job in seen), max(0, in_queue - adopted)
        facts = resumed_told(self.played.acts, ended=ended, taken_back=adopted, wait=wait)
        self._screen.lines(dotted(" again  ", facts, self._screen.width))

    def _can_be_killed(self) -> bool:
        """Tell whether the training goes on for long enough; in a demo that is not resumed it must."""
        training = self._seen[TRAINING]
        gone = training.state in {"storing", "ended"}
        if self.stage.before is None or not (gone or training.progress.epoch > LAST_EPOCH):
            return True
        self._head("3", f"kill -9 on the runner, while {TRAINING} trains …")
        why = "had ended" if gone else "was nearly done"
        self._screen.line(f"{INDENT}not played: the training {why} when this demo went on")
        return False

    def _trains(self) -> bool:
        training = self._seen[TRAINING]
        return training.progress.epoch > 0 and self._process(training) is not None

    # A credential file appears

    async def _first_job(self, service: Service) -> None:
        self._head("1", "A credential file appears in certs/ …")
        if self.stage.before is None:
            await service.start()
        there = ids_in_queue(self.stage) | {seen.id for seen in (await self._look()).values() if seen.entry}
        await submit_all(self.stage, [part for part in self._parts if part.id not in there])
        written_at = write_credential(self.stage)
        after_s = round(await self._first_start() - written_at, 3)
        sources = await asyncio.to_thread(ControlClient(service.socket()).sources)
        found = next((queue.name for source in sources for queue in source.queues if source.file == CREDENTIAL), None)
        if found is None:
            raise DemoFailed(f"no queue was found behind {CREDENTIAL}, though its jobs were started")
        text = f'{INDENT}certs/{CREDENTIAL} written → queue "{found}" found, first job started'
        self._note(acts=FIRST_JOB, first_start_s=after_s)
        self._screen.lines(spread(text, f"after {after_s * 1000:.0f} ms", self._screen.width))

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
        await self._look_until(service, self._scene_is_over)
        self._note(acts=SHARED)
        self._screen.lines(self._states())

    async def _look_until(self, service: Service, is_over: Callable[[float], bool]) -> None:
        begun = time.monotonic()
        while not is_over(time.monotonic() - begun):
            if time.monotonic() > begun + SCENE_WITHIN_S:
                raise DemoFailed(f"the training was not half done after {SCENE_WITHIN_S:g} s")
            service.check_alive()
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()
            self._screen.draw(self._states())

    def _scene_is_over(self, looked_at_s: float) -> bool:
        training, epoch = self._seen[TRAINING].state, self._seen[TRAINING].progress.epoch
        if training in {"storing", "ended"}:
            raise DemoFailed("the training ended before the runner could be killed")
        all_there = epoch > 0 and all(self._seen[job_id].state == state for job_id, state in SCENE.items())
        return epoch >= LAST_EPOCH or (all_there and (epoch >= LOOKED_AT_EPOCH or looked_at_s >= LOOKED_AT_S))

    def _states(self) -> list[Line]:
        return states_table(self._parts, self._seen, self._gpus_called(), self._screen.width)

    def _gpus_called(self) -> str:
        return "GPU" if self.played.box and self.played.box.gpu_model else "simulated GPU"

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
        took_s, jobs = float(str(adopted["at"])) - service.started_at, int(str(adopted["jobs"]))
        self._note(acts=KILL, kill=KillFacts(killed, training.pid, service.pid, jobs, round(took_s, 3), lines + 1))
        self._killed_now = True
        self._screen.lines(dotted(INDENT, (goes_on, again), self._screen.width))

    def _taken_back(self, ending: str) -> list[Line]:
        """Say what came of the kill, where it was played in this sitting."""
        killed = self.played.kill
        if killed is None or not self._killed_now:
            return []
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
            counted = self._taken_back("its lines are counted at the end")
            self._screen.draw([*counted, [""], *self._states()] if counted else self._states())

    def _find(self) -> None:
        """Read what the jobs left, and compare it with what was expected."""
        receipts = {
            seen.id: seen.entry.stored.receipt for seen in self._seen.values() if seen.entry and seen.entry.stored
        }
        self.jobs = tuple(job_facts(part, receipts.get(part.id)) for part in self._parts)
        self.digits = digits_of(self.stage.outputs_of(TRAINING))
        lines = lines_of(receipts.get(TRAINING), self.stage.outputs_of(TRAINING))
        kill, resumed = self.played.kill, self.stage.before is not None
        if kill is not None and lines is not None:
            self._note(kill=msgspec.structs.replace(kill, lines_lost=lines.lost, lines_twice=lines.twice))
        self.problems += problems_of(self._parts, self.jobs, receipts, lines, resumed=resumed)

    def _show_ends(self) -> None:
        screen, digits = self._screen, self.digits
        if kill := self.played.kill:
            screen.lines(self._taken_back(f"{kill.lines_lost} lines lost, {kill.lines_twice} twice"))
        self._head("4", "How it ended")
        screen.lines(ends_table(self.jobs, screen.width))
        if digits is not None:
            share = f"{100 * digits.right / digits.unseen:.1f} % of {digits.unseen} unseen digits right"
            screen.line(f"{INDENT}{TRAINING}: {share}     loss {sparkline(digits.loss)}")
            screen.line(f"{INDENT}{self.stage.named / TRAINING}/{'  '.join(digits.files)}")

    # All acts

    def _note(self, **changes: object) -> None:
        """Remember what was played, here and for a demo that goes on after this one was interrupted."""
        self.played = msgspec.structs.replace(self.played, **changes)
        self.stage.note(self.played)

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
