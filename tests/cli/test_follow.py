"""``submit --follow`` beside a box that this file plays: through the result backend alone, as from anywhere."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.queues.folder_peek import queue_identity, waiting_messages
from adapters.results.folder import FolderResults
from runner.cli.log_sources import up_to_its_end
from runner.job import EndReason, make_key
from runner.ports import LogLine
from runner.receipt import Event, JobRow, Receipt
from tests.cli.typed import LIMIT_S, clean_environ
from tests.virtual_time import run_virtual

pytestmark = pytest.mark.integration


@dataclass
class Following:
    """A ``submit --follow`` that runs, and the box that has its job."""

    process: subprocess.Popen[str]
    root: Path
    job: str

    def write(self, *told: LogLine | Event) -> None:
        """Tell it something through the queue's result backend."""
        (message,) = waiting_messages(str(self.root))
        key = make_key(queue_identity(str(self.root)), self.job, message.submission)
        events = [one for one in told if isinstance(one, Event)]
        lines = [one for one in told if isinstance(one, LogLine)]

        async def write() -> None:
            results = FolderResults(str(self.root / "results"), box_id="box-1")
            await results.append(key, self.job, events, lines)
            await results.close()

        asyncio.run(write())

    def store_receipt(self) -> None:
        """Store the receipt of a job that succeeded, and nothing else."""
        (message,) = waiting_messages(str(self.root))
        key = make_key(queue_identity(str(self.root)), self.job, message.submission)
        receipt = Receipt(id=self.job, key=key, state="ended", end_reason="succeeded", attempt=1, box="box-1")

        async def store() -> None:
            results = FolderResults(str(self.root / "results"), box_id="box-1")
            await results.put_receipt(receipt)
            await results.close()

        asyncio.run(store())

    def end(self, reason: EndReason, exit_code: int | None = None, message: str = "") -> None:
        """Tell the end of the job."""
        self.write(Event("k", self.job, 1.0, "ended", message=message, end_reason=reason.value, exit_code=exit_code))

    def rest(self) -> tuple[int, str, str]:
        """Wait for its end; return the status and what it wrote since."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, err


@contextmanager
def following(state: Path, *words: str) -> Iterator[Following]:
    """Submit and follow a job; its id was said when this begins."""
    command = [sys.executable, "-m", "runner", "submit", "--state-dir", str(state), "--follow", *words, "--", "true"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environ()
    ) as process:
        assert process.stderr is not None
        assert "no runner seems to run" in process.stderr.readline()
        job = process.stderr.readline().removeprefix("runner: ").strip()
        try:
            yield Following(process, state / "queue", job)
        finally:
            process.kill()


def read_until(screen: int, text: bytes) -> bytes:
    """Return what a terminal shows up to and with this text."""
    seen = b""
    while text not in seen:
        seen += os.read(screen, 4096)
    return seen


def line(sequence: int, stream: str, data: bytes) -> LogLine:
    return LogLine(1, sequence, 1, stream, data)


def read_line(stream: object) -> str:
    return stream.readline()  # type: ignore[attr-defined, no-any-return]  # an open pipe


def test_output_comes_live_each_stream_to_its_own(tmp_path: Path) -> None:
    """The first line is read before the second is written."""
    with following(tmp_path) as it:
        it.write(line(0, "stdout", b"1\n"), line(1, "event", b"{}"), line(2, "runner", b"pulled\n"))
        assert read_line(it.process.stdout) == "1\n"
        it.write(line(3, "stderr", b"oops\n"), line(4, "stdout", b"2 without an end"))
        assert read_line(it.process.stderr) == "oops\n"
        it.end(EndReason.SUCCEEDED, 0)
        assert it.rest() == (0, "2 without an end", "")


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [
        (EndReason.FAILED, 7, 7),
        (EndReason.TIMEOUT, None, 124),
        (EndReason.OOM, 137, 137),
        (EndReason.REJECTED, None, 125),
        (EndReason.CANCELLED, None, 130),
    ],
)
def test_it_exits_as_the_job_did_and_says_why(tmp_path: Path, reason: EndReason, code: int | None, status: int) -> None:
    """A script goes by the status, a person by the line."""
    with following(tmp_path) as it:
        it.end(reason, code, "so it went")
        assert it.rest() == (status, "", f"runner: {it.job} {reason.value}: so it went\n")


def test_verbose_tells_each_change(tmp_path: Path) -> None:
    """Off a terminal there is no changing line, but lines on demand."""
    with following(tmp_path, "--verbose") as it:
        it.write(Event("k", it.job, 1.0, "staging", message="data.tar.gz"), line(0, "runner", b"pulled\n"))
        it.end(EndReason.SUCCEEDED, 0)
        status, out, err = it.rest()
        assert (0, "") == (status, out)
        assert {f"runner: {it.job} staging: data.tar.gz", "runner: pulled", f"runner: {it.job} ended"} == set(
            err.splitlines()
        )


def test_what_comes_between_two_attempts_is_told(tmp_path: Path) -> None:
    """The next may come in ten minutes; whoever waits is told why nothing happens. A claim is no such news."""
    with following(tmp_path) as it:
        claimed = Event("k", it.job, 1.0, "waiting", message="claimed from queue", row=JobRow(it.job))
        it.write(claimed, Event("k", it.job, 2.0, "waiting", 1, "failed: exit code 3; tried again after 4 min"))
        told = f"{it.job} attempt 1 ended as failed: exit code 3; tried again after 4 min"
        assert read_line(it.process.stderr) == f"runner: {told}\n"
        it.end(EndReason.SUCCEEDED, 0)
        assert it.rest() == (0, "", "")


def test_ctrl_c_lets_go_and_says_how_to_come_back(tmp_path: Path) -> None:
    """The job goes on: nobody loses a day's training to a reflex."""
    with following(tmp_path) as it:
        it.write(line(0, "stdout", b"1\n"))
        assert read_line(it.process.stdout) == "1\n"
        it.process.send_signal(signal.SIGINT)
        again = f"runner logs -f --state-dir={tmp_path} {it.job}"
        assert it.rest() == (130, "", f"runner: detached, the job goes on; follow it again with: {again}\n")
        assert len(waiting_messages(str(it.root))) == 1


def test_ctrl_c_cancels_where_that_was_asked_for(tmp_path: Path) -> None:
    """For scripts: what is interrupted is over."""
    with following(tmp_path, "--cancel-on-interrupt") as it:
        it.write(line(0, "stdout", b"1\n"))
        assert read_line(it.process.stdout) == "1\n"
        it.process.send_signal(signal.SIGINT)
        status, _, err = it.rest()
        assert (130, ()) == (status, waiting_messages(str(it.root)))
        assert f"runner: {it.job} is withdrawn from its queue, where it waited" in err


def test_a_reader_that_had_enough_is_no_error(tmp_path: Path) -> None:
    """``runner submit --follow … | head -1`` ends with the first line that nobody reads."""
    with following(tmp_path) as it:
        it.write(line(0, "stdout", b"1\n"))
        assert read_line(it.process.stdout) == "1\n"
        assert it.process.stdout is not None
        it.process.stdout.close()
        it.write(line(1, "stdout", b"2\n"))
        assert it.process.stderr is not None
        assert (0, "") == (it.process.wait(LIMIT_S), it.process.stderr.read())


def test_logs_follow_from_another_machine(tmp_path: Path) -> None:
    """By the queue's URL alone, to the end."""
    with following(tmp_path) as it:
        it.write(line(0, "stdout", b"1\n"))
        it.end(EndReason.SUCCEEDED, 0)
        it.rest()
        words = ["logs", "-f", "--queue", f"folder://{it.root}", it.job]
        said = subprocess.run(
            [sys.executable, "-m", "runner", *words], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert (0, "1\n", "") == (said.returncode, said.stdout, said.stderr)


def test_logs_follow_what_comes_after_the_receipt(tmp_path: Path) -> None:
    """A box that had no way to the result backend for a while stores the receipt first: the job's lines come later."""
    with following(tmp_path) as it:
        it.store_receipt()
        words = ("logs", "-f", "--queue", f"folder://{it.root}", it.job)
        with subprocess.Popen(
            [sys.executable, "-m", "runner", *words], stdout=subprocess.PIPE, text=True, env=clean_environ()
        ) as logs:
            with pytest.raises(subprocess.TimeoutExpired):
                logs.wait(2)
            it.write(line(0, "stdout", b"late\n"))
            it.end(EndReason.SUCCEEDED, 0)
            assert (logs.communicate(timeout=LIMIT_S)[0], logs.returncode) == ("late\n", 0)


def test_a_box_that_never_sends_the_end_is_waited_for_no_longer_than_that() -> None:
    """It may be gone for good."""

    async def log() -> AsyncIterator[LogLine | Event]:
        for sequence in range(3):
            await asyncio.sleep(15)
            yield line(sequence, "stdout", b"x")
        await asyncio.sleep(86_400)

    async def main() -> int:
        return len([told async for told in up_to_its_end(log(), 20)])

    assert run_virtual(main()) == 3


def test_on_a_terminal_one_line_tells_what_is_being_done_and_goes_when_output_comes(tmp_path: Path) -> None:
    """Staging takes a while: whoever waits sees at what."""
    screen, terminal = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "runner",
        "submit",
        "--state-dir",
        str(tmp_path),
        "--follow",
        "--id",
        "x",
        "--",
        "true",
    ]
    environ = {**clean_environ(), "TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True, env=environ) as process:
        os.close(terminal)
        read_until(screen, b"x waiting")
        it = Following(process, tmp_path / "queue", "x")
        it.write(Event("k", "x", 1.0, "staging", message="data.tar.gz"))
        assert read_until(screen, b"data.tar.gz").endswith(b"\r\x1b[2Kx staging: data.tar.gz")
        it.write(line(0, "stdout", b"1\n"))
        assert read_line(process.stdout) == "1\n"
        read_until(screen, b"\r\x1b[2K")
        it.end(EndReason.SUCCEEDED, 0)
        assert process.wait(LIMIT_S) == 0
    os.close(screen)
