"""What this version does not serve of a job, though it knows it: the list that grows shorter with every version."""

from __future__ import annotations

from runner.job import Job


def not_served(job: Job) -> tuple[str, ...]:
    """
    Name the fields that this version knows and does not serve yet, in the order of the reference.

    A job that sets one is rejected by name: ignoring it would run something else than what was asked for.
    """
    asked = {
        "venv": job.venv is not None,
        "requires": bool(job.requires),
        "continue_from": bool(job.continue_from),
        "resources.gpus (a fraction)": job.resources.gpus != int(job.resources.gpus),
        "resources.gpu_memory": job.resources.gpu_memory is not None,
        "resources.gpu_model": bool(job.resources.gpu_model),
        "resources.nodes": job.resources.nodes != 1,
        "outputs.every": any(output.every is not None for output in job.outputs),
        "outputs.resume": any(output.resume for output in job.outputs),
    }
    return tuple(name for name, is_set in asked.items() if is_set)
