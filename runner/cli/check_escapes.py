"""What `doctor` knows of ways out of containers here: one line a known fault, by what this box's programs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.config import Config
from runner.errors import RunnerError
from runner.receipt import Check

if TYPE_CHECKING:
    from adapters.escapes import Escape, Part


def escapes(config: Config) -> Iterator[Check]:
    """Look at docker, containerd, runc and NVIDIA's toolkit, for three seconds at most."""
    from adapters.containers.engine_parts import parts
    from adapters.escapes import ESCAPES

    try:
        found = {part.name: part for part in parts(config.docker_host)}
    except RunnerError as error:
        yield Check("escapes", "warn", f"cannot tell which ways out of containers are open here: {error}")
        return
    for escape in ESCAPES:
        if escape.part in found:
            yield _check(escape, found[escape.part], refuses=config.refuse_vulnerable)


def _check(escape: Escape, part: Part, *, refuses: bool) -> Check:
    from adapters.escapes import verdict

    told = verdict(escape, part)
    version = f"{told}: {part.name} {part.version}"
    found = f"{version}: {escape.about}"
    match told:
        case "fixed":
            return Check(escape.cve, "ok", version)
        case "vulnerable":
            state, then = ("fail", "; until then no container gets a GPU") if refuses else ("warn", "")
            return Check(escape.cve, state, found, f"upgrade {part.name} to {escape.fixed_in} or newer{then}")
        case _:
            where = f"look {escape.cve} up at your distribution, or upgrade to {escape.fixed_in} or newer"
            return Check(escape.cve, "warn", found, where)
