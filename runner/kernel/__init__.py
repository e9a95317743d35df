"""
Actors with typed mailboxes under one supervisor, in one event loop. Knows nothing of jobs; standard library only.

What it promises; the tests in `tests/kernel` that show a promise carry its number:

Sending

1.  A mailbox has two lanes. The normal one holds at most its capacity; the urgent one has none and never makes a
    sender wait.
2.  An urgent message is handled before every normal one that waits, also in the middle of a batch.
3.  From one sender, messages of one lane are handled in the order they were sent.
4.  When the normal lane is full, `tell` waits, drops the oldest or raises `MailboxFull`, as declared. `offer` never
    waits: it returns False. What was dropped or refused is counted.
5.  Senders that wait are let in first come, first served, and nobody overtakes them.
6.  A `tell` that is cancelled has sent nothing, and the place it was given goes to the next.
7.  No wake-up is lost: whatever lies in the mailbox of a running actor is handled.
8.  A ref is valid before its actor starts and across its restarts; one name is always the same ref.
9.  `ask` returns the first answer or raises the first failure; it raises `TimeoutError` after its time, and
    `ActorStopped` when the actor has ended, ends, or crashes over the question. Late answers are ignored.
10. Lengths, high-water marks of both lanes and losses are counted exactly.

Living

11. An actor handles one message at a time. It gives the event loop its turn after each batch.
12. `lifespan` is entered before the first message, and what follows its `yield` runs after a stop, a crash and a
    cancel alike, when the tasks have ended; both are bounded by `cleanup_s`.
13. A task's exception becomes `on_error(exception)` on the urgent lane of its actor; without `on_error` it crashes
    the actor.
14. Tasks are cancelled when their actor ends; `cancel_task` frees the name at once.
15. A cancellation that nobody asked for is an error and not an end: it crashes the actor, or goes to `on_error`.

Failing

16. After a crash a new instance from the factory goes on with the messages that wait. The one being handled is not
    handled again; it becomes a dead letter, "crashed".
17. Restarts come after a pause that doubles up to a limit, less its jitter.
18. Beyond its restarts, or when its very end is a crash, an actor of group "core" stops everything, and `run` raises
    `Escalated` from the crash after every lifespan was left. One of another group stays down; others notice nothing.
19. `watch` tells of every final end, with its reason: stopped, crashed or escalated.
20. What is sent to a stopped actor, and what is left when it ends, becomes a dead letter, "stopped". Senders that
    wait are released.

Ending

21. A graceful stop ends the actors one after another in the given order. Each takes nothing more on the normal lane,
    handles what waits in both, restarted if it must be, and leaves its lifespan. One grace counts for all together.
22. After the grace what is left is cancelled, in the middle of a message or a pause.
23. `CancelledError` always propagates: cancelling `run` leaves every lifespan and raises it.
24. `remove` ends one child gracefully and forgets it; the name can be added again, under the same ref.
25. Time is the event loop's; the wall clock is never read.
"""

from runner.kernel.actor import Actor
from runner.kernel.child import Restart
from runner.kernel.mailbox import Mailbox
from runner.kernel.ref import ActorStopped, Counters, DeadLetter, MailboxFull, Overflow, Ref, Reply
from runner.kernel.supervisor import ChildStatus, Down, Escalated, Supervisor

__all__ = [
    "Actor",
    "ActorStopped",
    "ChildStatus",
    "Counters",
    "DeadLetter",
    "Down",
    "Escalated",
    "Mailbox",
    "MailboxFull",
    "Overflow",
    "Ref",
    "Reply",
    "Restart",
    "Supervisor",
]
