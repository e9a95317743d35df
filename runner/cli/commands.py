"""Which commands there are, in the order in which help lists them, and where each one lives."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple


class Command(NamedTuple):
    """One command: its module below ``runner.cli``, one line about it, and the heading that help lists it under."""

    module: str
    about: str
    heading: str


ABOUT_JOBS, ABOUT_BOX, OPERATING, REFERENCE = "jobs", "the box and its queues", "operating it", "reference"

_ALL = {
    "run": Command("run", "serve this box: take jobs from its queues and run them", OPERATING),
    "submit": Command("submit", "put a job into a queue, and follow it with --follow", ABOUT_JOBS),
    "logs": Command("logs", "print what a job wrote; -f goes on until it ends", ABOUT_JOBS),
    "ps": Command("jobs", "list the jobs that are in hand; --all also those that ended", ABOUT_JOBS),
    "show": Command("jobs", "print all that is known of one job", ABOUT_JOBS),
    "why": Command("jobs", "say in one sentence what a job waits for, or how it ended", ABOUT_JOBS),
    "cancel": Command("stopping", "end a job wherever it is", ABOUT_JOBS),
    "sources": Command("box", "list the credential files and the queues behind them", ABOUT_BOX),
    "boxes": Command("boxes", "list the boxes that serve a queue, what is free there and what runs", ABOUT_BOX),
    "dead": Command("dead", "list, show, retry or drop the messages that a queue rejected", ABOUT_BOX),
    "images": Command("images", "list the container images of this box; pull, pin, unpin or prune them", ABOUT_BOX),
    "gpus": Command("box", "list the GPUs, their health, and who has them", ABOUT_BOX),
    "drain": Command("stopping", "stop the runner: no new jobs, what runs may end", OPERATING),
    "doctor": Command("doctor", "check what this box can do, and say how to mend what it cannot", OPERATING),
    "config": Command("config", "config explain: each value, and where it came from", REFERENCE),
    "schema": Command("schema", "print the JSON Schema of a job, a receipt or the configuration", REFERENCE),
    "completion": Command("completion", "print the completion script for a shell", REFERENCE),
    "demo": Command("demo", "see a runner at work on this machine, in half a minute", REFERENCE),
    "version": Command("version", "print the version", REFERENCE),
}

COMMANDS = {name: command for name, command in _ALL.items() if importlib.util.find_spec(f"runner.cli.{command.module}")}
"""Every command of this installation by name."""
