"""What one start needs, got together in order, and taken apart again where the start fails. Every function blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from adapters.containers import starter
from adapters.containers.cgroup import Cgroups, Made
from adapters.containers.cgroup_files import MEMORY, Limits
from adapters.containers.cgroup_group import Group
from adapters.containers.command import PROCESSES, Rlimits, check_command, environment, run_script
from adapters.containers.confinement import Confinement
from adapters.containers.control import Control, Record
from adapters.containers.ownership import hand_over, take_back
from adapters.containers.secret_shelf import SECRETS_VARIABLE, SecretShelf, variable
from adapters.files import explained
from runner.errors import Unavailable
from runner.ports import ContainerSpec
from runner.receipt import Isolation

_LOCK_LIMIT_S = 10.0
_LOCK_PAUSE_S = 0.005


class Preparation:
    """Starts containers on a box whose abilities are known."""

    def __init__(
        self, box_id: str, confinement: Confinement, cgroups: Cgroups, now: Callable[[], float], shelf: SecretShelf
    ) -> None:
        self.confinement = confinement
        self._shelf = shelf
        self._box_id = box_id
        self._cgroups = cgroups
        self._now = now

    def limits_missing(self) -> tuple[str, ...]:
        """Name the limits that no job gets here, by making a group and deleting it."""
        made = self._cgroups.make("doctor", Limits(memory=1 << 30, cpus=1, pids=PROCESSES))
        Group(made.directories).remove()
        return made.missing

    def start(self, spec: ContainerSpec, control: Control) -> bool:
        """
        Start what nobody started before, and tell whether this call did.

        Raises:
            BadInput: the command cannot be run.
            Unavailable, OutOfSpace: it could not begin; nothing of it is left.
        """
        if _has_begun(control):
            return False
        variables = self._check(spec, control)
        secrets = self._secrets(spec)
        with explained(f"start {spec.name}", control.path):
            control.make()
            lock = _lock(control)
        if lock is None:
            return False
        try:
            if control.pids() is not None:
                return False
            self._start_locked(spec, control, lock, variables, secrets)
            return True
        finally:
            os.close(lock)

    def _secrets(self, spec: ContainerSpec) -> dict[str, bytes]:
        """Read what the job is given, and refuse what it could not be."""
        values = self._shelf.values(spec.secrets)
        for name, value in values.items() if spec.secrets_in_env else ():
            variable(name, value)
        return values

    def _check(self, spec: ContainerSpec, control: Control) -> dict[str, str]:
        """Refuse what cannot run while nothing is made yet; return the job's environment."""
        secrets = self._shelf.path(spec.name) if spec.secrets else ""
        temporary = self.confinement.temporary(control)
        variables = environment(spec, temporary=temporary, deadline=control.deadline, secrets=secrets)
        run_script(spec, variables, Rlimits())
        if not os.path.isdir(spec.workspace):
            raise Unavailable(f"start {spec.name}: its workspace {spec.workspace} is gone: stage it again")
        if spec.steps:
            return variables  # an earlier step may well make the program of a later one
        check_command(
            spec.command[0],
            path=variables["PATH"],
            workspace=spec.workspace,
            may_run=lambda file: self.confinement.why_not(file, spec),
        )
        return variables

    def _start_locked(
        self,
        spec: ContainerSpec,
        control: Control,
        lock: int,
        variables: dict[str, str],
        secrets: dict[str, bytes],
    ) -> None:
        record = self._record(spec, control)
        try:
            with explained(f"start {spec.name}", control.path):
                control.save(record)
                if secrets:
                    self._shelf.fill(spec.name, secrets, os.geteuid() if record.uid is None else record.uid)
                self._launch(spec, control, lock, record, variables)
        except BaseException:
            self._undo(control, record)
            raise

    def _record(self, spec: ContainerSpec, control: Control) -> Record:
        """Claim what is claimed by name, so that a start that was cut off claims the same again."""
        uids = self.confinement.uids
        uid = uids.claim(control.path) if uids else None
        made = self._make_group(spec)
        return Record(
            name=spec.name,
            box=self._box_id,
            started_at=self._now(),
            workspace=spec.workspace,
            uid=uid,
            groups=made.directories,
            wrapped=self.confinement.way == "bwrap",
            isolation=Isolation(
                runtime="process",
                user=str(os.geteuid() if uid is None else uid),
                network=self.confinement.network,
                gpu="advisory",
                missing=(*self.confinement.missing, *made.missing),
            ),
        )

    def _make_group(self, spec: ContainerSpec) -> Made:
        here = spec.grant.here
        return self._cgroups.make(spec.name, Limits(memory=here.memory, cpus=here.cpus, pids=PROCESSES))

    def _launch(
        self, spec: ContainerSpec, control: Control, lock: int, record: Record, variables: dict[str, str]
    ) -> None:
        run = run_script(spec, variables, _rlimits(spec, record))
        control.lay_out(run=run, deadline_at=spec.deadline_at, uid=record.uid, has_steps=bool(spec.steps))
        if record.uid is not None:
            self.confinement.check_reachable(control, spec)
            hand_over(spec.workspace, record.uid)
        secrets = variables.get(SECRETS_VARIABLE, "")
        start = starter.Launch(
            control=control,
            prefix=self.confinement.prefix(control, spec, record.uid, secrets),
            joining=Group(record.groups).joining(),
            cores=spec.grant.here.cores,
            view=self.confinement.view(control, spec, secrets),
            call_filter=b"" if self.confinement.way == "bwrap" else self.confinement.call_filter,
        )
        starter.launch(start, lock)
        control.forget_run()

    def _undo(self, control: Control, record: Record) -> None:
        Group(record.groups).remove()
        self._shelf.remove(control.name)
        if record.uid is not None and self.confinement.uids:
            take_back(record.workspace)
            self.confinement.uids.release(record.uid, control.path)
        control.delete()


def _rlimits(spec: ContainerSpec, record: Record) -> Rlimits:
    here = spec.grant.here
    # CUDA maps far more addresses than it uses, so with a card nothing is better than this.
    bounded_by_address = MEMORY in record.isolation.missing and all(gpu.simulated for gpu in here.gpus)
    return Rlimits(
        file_bytes=here.disk,
        address_bytes=here.memory if bounded_by_address else 0,
        processes=PROCESSES if record.uid is not None else 0,
    )


def _has_begun(control: Control) -> bool:
    pids = control.pids()
    return pids is not None and (pids.job is not None or not control.is_alive())


def _lock(control: Control) -> int | None:
    """Return the container's lock, None where somebody else began it meanwhile."""
    give_up_at = time.monotonic() + _LOCK_LIMIT_S
    while (lock := control.try_lock()) is None:
        if _has_begun(control):
            return None
        if time.monotonic() > give_up_at:
            raise Unavailable(f"start {control.name}: another start of it does not get on: look at the disk")
        time.sleep(_LOCK_PAUSE_S)
    return lock
