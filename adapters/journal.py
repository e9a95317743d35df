"""
The journal in one SQLite file: written before the world is touched, read after a restart, and by others at any time.

Every record is committed to the write-ahead log before ``append`` returns, which survives the end of the process at
any instant. The commit of a ``StoreRecord`` also waits for the disk, and with it for all before it: once the broker
is told a verdict, the journal must still know it after a power cut. All else may be lost with the power, because the
processes that it speaks of are lost with it, and their messages still stand in their queues. (Measured on a virtual
disk: a commit takes 0.02 ms, one that waits 0.3 ms and, beside a busy neighbour, 5 ms; a job has about nine.)

A short record is committed in place, into memory that the kernel writes out by itself: handing it to a thread would
take three times as long. Whatever may wait, for the disk, for another program or to move the log into the file, is
done in a thread. What this life claimed itself is answered from memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adapters.body_cipher import BodyCipher
from adapters.journal_memory import Remembered
from adapters.journal_rows import FIND, IN_FLIGHT, LIST, LIST_IN_FLIGHT, ONE, JournalWriter, read_entry
from adapters.journal_schema import explained, may_wait, must_not_wait, open_reader, open_writer
from adapters.worker import Worker
from runner.errors import RunnerError, Unavailable
from runner.job import Key
from runner.records import ClaimRecord, JournalEntry, JournalRecord, SettleRecord, StoreRecord

T = TypeVar("T")
PRUNE_AT_ONCE = 500
BATCH_MAX = 256
IN_PLACE_BYTES = 16 << 10


class JournalReader:
    """
    The reading half of the journal, for any process, whether a runner is up or not. Never holds the writer up.

    Bodies, values of ``env`` and texts of inputs are left out, since only the runner decrypts them. A journal that was
    never written reads as empty.
    """

    def __init__(self, path: str, cipher: BodyCipher | None = None) -> None:
        self._path = path
        self._cipher = cipher
        # One thread, so that the connection is used by one caller at a time.
        self._thread = Worker("reading the journal")
        self._connection: sqlite3.Connection | None = None

    async def entry(self, key: Key) -> JournalEntry | None:
        return await self._one(ONE, key)

    async def in_flight(self) -> tuple[JournalEntry, ...]:
        return await self._thread.run(lambda: self._select(IN_FLIGHT))

    async def find(self, job_id: str) -> JournalEntry | None:
        return await self._one(FIND, job_id, job_id)

    async def list(self, *, limit: int, ended: bool) -> tuple[JournalEntry, ...]:
        return await self._thread.run(lambda: self._select(LIST if ended else LIST_IN_FLIGHT, limit))

    async def close(self) -> None:
        """Close the file; idempotent."""
        if self._connection is not None:
            await self._thread.run(self._connection.close)
            self._connection = None
        self._thread.shutdown()

    async def _one(self, sql: str, *names: str) -> JournalEntry | None:
        found = await self._thread.run(lambda: self._select(sql, *names))
        return found[0] if found else None

    def _select(self, sql: str, *values: object) -> tuple[JournalEntry, ...]:
        connection = self._opened()
        if connection is None:
            return ()
        with explained(self._path):
            rows = connection.execute(sql, values).fetchall()
        return tuple(read_entry(row, self._path, self._cipher) for row in rows)

    def _opened(self) -> sqlite3.Connection | None:
        if self._connection is None:
            self._connection = open_reader(self._path)
        return self._connection


@dataclass(frozen=True, slots=True)
class _Needs:
    """How a change is committed: its commit waits for the disk; it takes several statements; it takes no time."""

    to_disk: bool = False
    transaction: bool = True
    quick: bool = False


@dataclass(slots=True)
class _Work:
    """One change that waits for its commit, and what is to be told of it then, whoever still waits for it."""

    run: Callable[[JournalWriter], int]
    then: Callable[[int], None]
    done: asyncio.Future[int]
    needs: _Needs

    def tell(self, result: int | BaseException) -> None:
        """Say how it went."""
        if not isinstance(result, BaseException):
            self.then(result)
        if self.done.cancelled():
            return
        if isinstance(result, BaseException):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class SqliteJournal(JournalReader):
    """
    The one writer. Changes that come while a commit runs share the next one.

    Bodies are encrypted by the key at ``key_path``, which is made when the first message comes.

    Raises:
        ConfigurationError: the file is damaged, was written by a newer version, or cannot be written; says what to do.
    """

    def __init__(self, path: str, key_path: str) -> None:
        self._writing = open_writer(path)
        cipher = BodyCipher(key_path)
        super().__init__(path, cipher)
        self._bodies = cipher
        self._writer = JournalWriter(self._writing, cipher)
        must_not_wait(self._writing)
        self._remembered = Remembered()
        self._write_thread = Worker("writing the journal")
        self._waiting: list[_Work] = []
        # The commit that runs now; the next begins when it is done.
        self._commit: asyncio.Future[list[int | RunnerError]] | None = None
        self._closed = False

    async def append(self, key: Key, record: JournalRecord) -> None:
        def remember(begins: int) -> None:
            self._remembered.take_in(key, record, begins=bool(begins))

        await self._committed(lambda writer: writer.write(key, record), remember, self._needs_of(record))

    async def entry(self, key: Key) -> JournalEntry | None:
        if (known := self._remembered.find(key)) is not None:
            return known
        self._check_open()
        if self._commit is not None:
            return await super().entry(key)
        # A key is found by a few pages of an index, which are in memory: a third of the cost of a trip to a thread.
        with explained(self._path):
            row = self._writing.execute(ONE, (key,)).fetchone()
        return None if row is None else read_entry(row, self._path, self._cipher)

    async def prune(self, before: float) -> int:
        pruned = 0
        while more := await self._committed(lambda writer: writer.prune(before, PRUNE_AT_ONCE), _nothing, _Needs()):
            pruned += more
        return pruned

    async def close(self) -> None:
        """Write out what waits, and close; what comes later is refused. Idempotent."""
        was_closed, self._closed = self._closed, True
        while self._commit is not None:
            await asyncio.wait([self._commit])
            await asyncio.sleep(0)
        await super().close()
        if not was_closed:
            await self._write_thread.run(self._writing.close)
        self._write_thread.shutdown()

    def _check_open(self) -> None:
        """Refuse what comes as a thread closes the file: nothing else may touch the connection then."""
        if self._closed:
            raise Unavailable(f"cannot use the journal {self._path}: it is closed")

    async def _committed(self, run: Callable[[JournalWriter], int], then: Callable[[int], None], needs: _Needs) -> int:
        self._check_open()
        work = _Work(run, then, asyncio.get_running_loop().create_future(), needs)
        if not (needs.quick and self._commit is None and self._commit_in_place(work)):
            self._waiting.append(work)
            if self._commit is None:
                self._begin_commit()
        return await work.done

    def _needs_of(self, record: JournalRecord) -> _Needs:
        if isinstance(record, ClaimRecord):
            # The first one loads the cipher, and a long one takes a while to encrypt.
            return _Needs(quick=self._bodies.is_loaded and len(record.body) <= IN_PLACE_BYTES)
        to_disk = isinstance(record, StoreRecord)
        return _Needs(to_disk, transaction=to_disk or isinstance(record, SettleRecord), quick=not to_disk)

    def _commit_in_place(self, work: _Work) -> bool:
        """Commit now; False, and nothing done, where that would have to wait."""
        (result,) = self._carry_out([work], waits=False)
        if isinstance(result, Unavailable):
            return False
        work.tell(result)
        return True

    def _begin_commit(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        self._commit = asyncio.get_running_loop().run_in_executor(self._write_thread, self._carry_out, batch)
        self._commit.add_done_callback(lambda commit: self._end_commit(batch, commit))

    def _end_commit(self, batch: list[_Work], commit: asyncio.Future[list[int | RunnerError]]) -> None:
        self._commit = None
        broken = commit.exception()
        results = [broken] * len(batch) if broken else commit.result()
        for work, result in zip(batch, results, strict=True):
            work.tell(result)
        if self._waiting:
            self._begin_commit()

    def _carry_out(self, batch: list[_Work], *, waits: bool = True) -> list[int | RunnerError]:
        try:
            return self._transact(batch, waits=waits)
        except RunnerError as error:
            if len(batch) == 1:
                return [error]
        # One of them cannot be written; the others must not suffer for it.
        return [result for work in batch for result in self._carry_out([work])]

    def _transact(self, batch: list[_Work], *, waits: bool) -> list[int | RunnerError]:
        with explained(self._path):
            if waits:
                may_wait(self._writing, for_disk=any(work.needs.to_disk for work in batch))
            try:
                return self._run_all(batch)
            finally:
                if self._writing.in_transaction:
                    self._writing.execute("ROLLBACK")
                if waits:
                    must_not_wait(self._writing)

    def _run_all(self, batch: list[_Work]) -> list[int | RunnerError]:
        # A statement alone is its own transaction, at half the cost: each call hands the interpreter lock to and fro.
        if len(batch) == 1 and not batch[0].needs.transaction:
            return [batch[0].run(self._writer)]
        self._writing.execute("BEGIN IMMEDIATE")
        results: list[int | RunnerError] = [work.run(self._writer) for work in batch]
        self._writing.execute("COMMIT")
        return results


def _nothing(_: int) -> None:
    """Nothing is remembered of what is pruned."""
