"""``runner submit``: checks a job, brings its local files along, puts it into a queue; follows it on demand."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.follow import Records, Screen
from runner.cli.local_files import add_upload, make_outputs_absolute, take_local_inputs, upload
from runner.cli.output import print_json, say
from runner.cli.parser import add_command, add_json, add_queue, add_raw
from runner.cli.place import same_place
from runner.cli.submission import add_fields, apply_options, checked, fill_in, read_document, told_name

if TYPE_CHECKING:
    from runner.cli.local_files import LocalInput
    from runner.cli.parser import Subparsers
    from runner.cli.target import Target
    from runner.job import Job, Key

EXIT_DETACHED = 130
USAGE = """\
runner submit [options] JOB.toml
       runner submit [options] JOB.json
       runner submit [options] -            (TOML or JSON from standard input)
       runner submit [options] -- COMMAND..."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``submit``."""
    parser = add_command(subparsers, "submit", submit)
    parser.usage, parser.hint = USAGE, "a command goes behind --"
    parser.add_argument("file", metavar="JOB", nargs="?", help="a job file, or - for standard input")
    add_queue(parser)
    parser.add_argument(
        "--follow", "-f", action="store_true", help="print its output until it ended, and exit as it did"
    )
    parser.add_argument("--cancel-on-interrupt", action="store_true", help="with --follow: Ctrl-C cancels the job")
    parser.add_argument("--verbose", "-v", action="store_true", help="with --follow: a line on stderr for each change")
    add_raw(parser)
    parser.add_argument(
        "--upload", metavar="DIR", help="pack a directory (but for .runnerignore) as the job's workspace"
    )
    add_json(parser)
    add_fields(parser)


def submit(args: argparse.Namespace) -> int:
    """Submit one job; print its id, or follow it."""
    if args.file is None and args.words is None:
        args.parser.error("a job is missing; name a job file, or give a command after --")
    document = read_document(args.file)
    _warn_of_quotes(args.words)
    apply_options(document, args)
    fill_in(document)
    if args.upload:
        add_upload(document, args.upload)
    base = Path.cwd() if args.file in {None, "-"} else Path(str(args.file)).absolute().parent
    local = take_local_inputs(document, base)
    make_outputs_absolute(document, base)
    return asyncio.run(_submit(args, checked(document, told_name(args.file)), local))


def _warn_of_quotes(words: list[str] | None) -> None:
    """A shell that got a command in quotes hands it over as one word, which then names one program."""
    if words is not None and len(words) == 1 and len(words[0].split()) > 1:
        line = f"sh -c {shlex.quote(words[0])}"
        say(f"{words[0]!r} is taken as the name of one program; without its quotes it is a command, or write: {line}")


async def _submit(args: argparse.Namespace, job: Job, local: list[LocalInput]) -> int:
    from runner.cli.submitting import put_job
    from runner.cli.target import open_target

    async with open_target(args, make=True, needs_results=bool(args.follow or local)) as target:
        if local:
            job = await upload(job, local, target.results)
        key = await put_job(job, target)
        _warn_of_no_runner(args, target)
        if args.follow:
            say(job.id)
            return await _follow(args, target, job.id, key)
    if args.json:
        print_json({"id": job.id, "key": key, "queue": target.place.url})
    else:
        print(job.id)
    return 0


def _warn_of_no_runner(args: argparse.Namespace, target: Target) -> None:
    from runner.cli.books import runner_answers

    state = paths.state_dir(args)
    if target.place.own and not runner_answers(state):
        say(f"no runner seems to run on {state}, so the job waits; start one with: {paths.start_command(state)}")


async def _follow(args: argparse.Namespace, target: Target, job_id: str, key: Key) -> int:
    """Show the job until it ended; the first Ctrl-C cancels the job where that was asked for, else lets go of it."""
    screen = Records(verbose=args.verbose) if args.json else Screen(verbose=args.verbose, raw=args.raw)
    screen.progress(f"{job_id} waiting")
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_read(target, key, screen))
        asked: list[str] = []

        def interrupted() -> None:
            if args.cancel_on_interrupt and not asked:
                asked.append(job_id)
                group.create_task(_cancel(args, job_id))
            else:
                reading.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.remove_signal_handler(signal.SIGINT)
    if reading.cancelled():
        return _detached(args, screen, job_id)
    status = screen.exit_status()
    return EXIT_DETACHED if status is None else status


async def _read(target: Target, key: Key, screen: Screen) -> None:
    from runner.ports import Position

    async for told in target.results.tail(key, Position(), follow=True):
        screen.show(told)


async def _cancel(args: argparse.Namespace, job_id: str) -> None:
    from runner.cli.stopping import end_job

    asked = argparse.Namespace(**{**vars(args), "job": job_id})
    say(await asyncio.to_thread(end_job, asked))


def _detached(args: argparse.Namespace, screen: Screen, job_id: str) -> int:
    screen.finish()
    state = [f"--state-dir={args.state_dir}"] if args.state_dir else []
    again = shlex.join(["runner", "logs", "-f", *same_place(args), *state, job_id])
    say(f"detached, the job goes on; follow it again with: {again}")
    return EXIT_DETACHED
