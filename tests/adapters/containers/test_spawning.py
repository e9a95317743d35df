"""What a spawned program gets: words, variables, descriptors, signals, cores."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from adapters.containers.spawning import on_cores, spawn

BEYOND = 20
THREADS_OWN = 0b11 << 31
"""Signals 32 and 33 belong to the C library, which has its own way with them."""


def told(script: str, tmp_path: Path) -> list[str]:
    """Spawn a shell with nothing but its three descriptors, and return what it wrote."""
    with (tmp_path / "told").open("w+b") as file:
        descriptors = [os.dup2(file.fileno(), BEYOND + number, inheritable=False) for number in range(3)]
        try:
            pid = spawn("/bin/sh", ["sh", "-c", script, "zero", "a b"], {"GREETING": "good day"}, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        assert 0 == os.waitpid(pid, 0)[1]
        file.seek(0)
        return file.read().decode().splitlines()


def test_words_variables_and_descriptors_arrive(tmp_path: Path) -> None:
    assert ["a b", "good day", "to stderr"] == told('echo "$1"; echo "$GREETING"; echo to stderr >&2', tmp_path)


def test_it_leads_a_session_with_all_signals_as_by_default(tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and whoever started the runner may have blocked or ignored others."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        # Read by the shell itself: while it starts another program, it has all signals blocked.
        script = (
            "read -r stat < /proc/$$/stat; set -- $stat; echo $1 $6; "
            "while read -r key word; do case $key in SigBlk:|SigIgn:) echo $key $word;; esac; done < /proc/$$/status"
        )
        (pid, session), (_, blocked), (_, ignored) = (line.split() for line in told(script, tmp_path))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGHUP, before)
    assert pid == session
    assert (0, 0) == (int(blocked, 16), int(ignored, 16) & ~THREADS_OWN)


def test_what_cannot_be_spawned_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nosuch"):
        spawn(str(tmp_path / "nosuch"), ["x"], {}, [])


def test_cores_hold_for_what_is_started_and_only_for_a_while(tmp_path: Path) -> None:
    mine = os.sched_getaffinity(0)
    with on_cores([max(mine)]):
        assert [f"Cpus_allowed_list:\t{max(mine)}"] == told("grep Cpus_allowed_list /proc/$$/status", tmp_path)
    assert mine == os.sched_getaffinity(0)


def test_cores_that_do_not_exist_change_nothing() -> None:
    mine = os.sched_getaffinity(0)
    with on_cores([1000]):
        assert mine == os.sched_getaffinity(0)
